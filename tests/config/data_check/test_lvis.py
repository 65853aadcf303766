"""Annotations of LVIS' form, and of Objects365's, against a config of mmdet."""

import re

import pytest

from mmspike.config.data_check import check_data

from .drawn import coco, detector


def config(root, change=None, classes=('cell', 'debris'), type='LVISV1Dataset'):
    def lvis(content):
        for image in content['images']:
            image |= dict(coco_url='http://images.cocodataset.org/train/' + image['file_name'])
            image |= dict(neg_category_ids=[], not_exhaustive_category_ids=[])
            del image['file_name']
        for category in content['categories']:
            category['frequency'] = 'f'
        for annotation in content['annotations']:
            del annotation['iscrowd']
        if change:
            change(content)

    cfg = detector(coco(root, lvis if type == 'LVISV1Dataset' else change, categories=('cell', 'debris')), classes)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].dataset |= dict(type=type, data_prefix=dict(img='' if type == 'LVISV1Dataset' else 'train'))
    cfg.val_evaluator = cfg.test_evaluator = dict(type='LVISMetric')
    return cfg


def test_data_that_fit(tmp_path):
    report = check_data(config(tmp_path))
    assert not report.findings and '6 of 6 annotations, 3 of 3 pictures' in report.rows[0][3]


@pytest.mark.parametrize(
    'change,options,message',
    [
        (lambda c: c['images'][1].pop('coco_url'), {}, 'image 2 has no "coco_url"'),
        (lambda c: c['categories'][0].pop('frequency'), {}, r"in \"categories\" has no 'frequency', which the evaluation"),
        (lambda c: c['images'][0].pop('neg_category_ids'), {}, r"in \"images\" has no 'neg_category_ids'"),
        (None, dict(classes=('debris',)), 'it has 2 categories, the config 1 classes: mmdet learns every category'),
        (None, dict(classes=('debris', 'cell')), "in another order than the classes, from 'debris' on"),
        (lambda c: c['annotations'][0].pop('area'), {}, "annotation 1 has no 'area'"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit(tmp_path, change, options, message):
    assert re.search(message, '\n'.join(map(str, check_data(config(tmp_path, change, **options)).errors)))


def test_objects365_sorts_its_categories(tmp_path):
    cfg = config(tmp_path, lambda c: c['categories'].reverse(), type='Objects365V1Dataset')
    assert not check_data(cfg, ('train_dataloader',), ()).findings
    cfg = config(tmp_path, classes=('debris', 'cell'), type='Objects365V1Dataset')
    assert "Write classes=('cell', 'debris',)" in str(check_data(cfg, ('train_dataloader',), ()).errors[0])
