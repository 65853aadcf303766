"""Annotations of Pascal VOC's form against a config of mmdet."""

import re

import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config

from mmspike.config.data_check import check_data

from .drawn import RECTANGLES, SIDE, detector, picture


def voc(root, names=('cell', 'debris'), change=None, suffix='.jpg', lines='{0}0\n{0}1\n'):
    """Pictures with an object of each name; ``change`` maps the text of an XML."""
    for split in ('train', 'val'):
        (root / 'lists').mkdir(parents=True, exist_ok=True)
        (root / f'lists/{split}.txt').write_text(lines.format(split))
        for i in range(2):
            objects = ''
            for name, (x, y, w, h) in zip(names, RECTANGLES, strict=False):
                corners = dict(xmin=x, ymin=y, xmax=x + w, ymax=y + h)
                box = ''.join(f'<{key}>{value}</{key}>' for key, value in corners.items())
                objects += f'<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>'
            text = f'<annotation><size><width>{SIDE}</width><height>{SIDE}</height></size>{objects}</annotation>'
            picture(root / f'JPEGImages/{split}{i}{suffix}')
            (root / 'Annotations').mkdir(exist_ok=True)
            (root / f'Annotations/{split}{i}.xml').write_text(change(text) if change else text)
    return root


def config(root, classes=('cell', 'debris'), type='XMLDataset', **dataset) -> Config:
    cfg = detector(root, classes, number=len(classes or ()), masks=False)
    for split in ('train', 'val', 'test'):
        own = dict(type=type, ann_file=f'lists/{split.replace("test", "val")}.txt', data_prefix=dict(sub_data_root=''))
        del cfg[f'{split}_dataloader'].dataset['data_prefix']
        cfg[f'{split}_dataloader'].dataset |= own | dataset
    cfg.val_evaluator = cfg.test_evaluator = dict(type='VOCMetric')
    return cfg


def shares(text):
    return re.sub(r'>(\d\d)<', r'>0.\1<', text).replace('0.64', '64')


def test_data_that_fit(tmp_path):
    cfg = config(voc(tmp_path))
    report = check_data(cfg)
    assert not report.findings
    assert report.rows[0][2:] == ('2 classes, 2 pictures, 4 of 4 objects', '2 of 2 XML files, 2 of 2 pictures')
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 2
    # a subset on purpose, and an XML without size or objects
    (doubt, *_), errors = (report := check_data(config(tmp_path, ('debris',)))).doubts, report.errors
    assert not errors and "no class learns 1 names of objects (2 of 2 XML files): 'cell' (2 objects)" in str(doubt)
    voc(tmp_path / 'plain', names=(), change=lambda text: '<annotation/>')
    report = check_data(config(tmp_path / 'plain', filter_cfg=None))
    assert not report.errors and "no object has the class 'cell'" in str(report.doubts[0])


@pytest.mark.parametrize(
    'data,options,message',
    [
        (dict(names=('Cell', 'debris')), {}, r"no object has the class 'cell': did you mean 'Cell' \(2 objects\)\?"),
        (dict(names=('cell ', 'debris')), {}, r"no object has the class 'cell': did you mean 'cell ' \(2 objects\)\?"),
        (dict(), dict(type='VOCDataset', classes=None), r"they are 'cell', 'debris', the classes 'aeroplane'"),
        (dict(), dict(classes=None), r'XMLDataset needs the names of the classes'),
        (dict(suffix='.png'), {}, r'2 of 2 pictures .*: there is train0\.png\. XMLDataset reads \.jpg only'),
        (dict(lines='{0}0.jpg\n'), {}, r'1 of 1 XML files do not exist, .*train0\.jpg\.xml.*name without suffix and label'),
        (dict(lines='{0}0  1\n'), {}, r'1 of 1 XML files do not exist, .*name without suffix and label'),
        (dict(lines='{0}0\n\n{0}1\n'), {}, r'train\.txt: line 2 is empty'),
        (dict(lines=''), {}, r'train\.txt: the list is empty'),
        (dict(change=lambda s: s.replace('<xmax>30', '<xmax>9')), {}, r"a box of 'cell' has no area, \[10, 20, 9, 50\]"),
        (dict(change=lambda s: s.replace('>50<', '>5e-1<')), {}, r"a box of 'cell' has no area, \[10, 20, 30, 0\]"),
        (dict(change=shares), {}, r'4 of 4 boxes have no corner above 1 px'),
        (dict(change=lambda s: s.replace('bndbox', 'robndbox')), {}, r'train0\.xml: object 1 has no <bndbox>'),
        (dict(change=lambda s: s.replace('xmin', 'x')), {}, r'object 1 has no <xmin>'),
        (dict(change=lambda s: s.replace('<width>64', '<width>64.0')), {}, r"<size> has width '64\.0': expected a whole"),
        (dict(change=lambda s: s.replace('>0<', '>no<')), {}, r"object 1 has difficult 'no'"),
        (dict(change=lambda s: s[:100]), {}, r'train0\.xml: no valid XML .*\(and 1 files more\)'),
        (dict(change=lambda s: s.replace('64', '99')), {}, r'train0\.jpg is loaded with 64 x 64 px .* its XML says 99 x 99'),
        (dict(names=()), dict(filter_cfg=dict(filter_empty_gt=True)), r'0 of 2 pictures .*: 2 have no object of a class'),
        (dict(), dict(filter_cfg=dict(min_size=80)), r'0 of 2 pictures are left after .*: 2 are smaller than min_size'),
    ],
)  # fmt: skip
def test_data_that_do_not_fit(tmp_path, data, options, message):
    classes = options.pop('classes', ('cell', 'debris'))
    report = check_data(config(voc(tmp_path, **data), classes, **options), ('train_dataloader',), ())
    assert re.search(message, '\n'.join(map(str, report.errors)))


def test_boxes_beyond_their_picture_are_doubted(tmp_path):
    report = check_data(config(voc(tmp_path, change=lambda s: s.replace('>55<', '>90<'))), ('train_dataloader',), ())
    assert not report.errors and '2 of 4 boxes reach beyond the size in their XML' in str(report.doubts)


def test_a_filter_that_nobody_reads_is_doubted(tmp_path):
    cfg = config(voc(tmp_path), filter_cfg=dict(filter_empty=True))
    (doubt,) = check_data(cfg, ('train_dataloader',), ()).doubts
    assert "filter_cfg has 'filter_empty', which nobody reads" in doubt.text


def test_the_smallest_box_is_a_filter_of_training_alone(tmp_path):
    cfg = config(voc(tmp_path), filter_cfg=dict(filter_empty_gt=True, bbox_min_size=8))
    report = check_data(cfg)
    assert not report.doubts and [error.place for error in report.errors] == ['val_dataloader']
    assert 'XMLDataset takes filter_cfg.bbox_min_size in training only' in report.errors[0].text
    with pytest.raises(AssertionError):
        DATASETS.build(cfg.val_dataloader.dataset)


def test_pictures_in_the_folders_that_their_xml_names(tmp_path):
    def named(text):
        return text.replace('<annotation>', '<annotation><folder>0--Parade</folder>')

    cfg = config(voc(tmp_path, ('face',), named), ('face',), 'WIDERFaceDataset')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_prefix = dict(img='')
    report = check_data(cfg, ('train_dataloader',), ())
    assert re.search(r'2 of 2 pictures do not exist, the first is .*/0--Parade/train0\.jpg', str(report.errors))
    for path in tmp_path.glob('JPEGImages/*'):
        (tmp_path / '0--Parade').mkdir(exist_ok=True)
        path.rename(tmp_path / '0--Parade' / path.name)
    report = check_data(cfg, ('train_dataloader', 'val_dataloader'), ())
    assert not report.findings and report.rows[0][1:3] == ('WIDERFaceDataset', '1 classes, 2 pictures, 2 of 2 objects')
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 2
    voc(tmp_path, ('face',))
    assert 'it has no <folder>, which WIDERFaceDataset reads' in str(check_data(cfg, ('train_dataloader',), ()).errors)
