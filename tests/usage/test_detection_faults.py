"""Odd annotations: what a detector with masks learns from them, and that its score is still computed."""

import json
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

pytest.importorskip('mmdet')

from mmspike.config import launch  # noqa: E402
from mmspike.config.data_paths import config_datasets  # noqa: E402

from .tiny import CLASSES, SIZE, config, samples  # noqa: E402


def annotation(x, y, w, h, **more):
    return dict(bbox=[x, y, w, h], segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]], area=w * h) | more


GOOD = annotation(20, 20, 40, 40)
# what -> (annotations of an image, boxes that are learned)
ODD = {
    'outside its image': ([annotation(200, 200, 40, 40)], 0),
    'across the border': ([annotation(80, 80, 60, 60)], 1),
    'no object': ([], 0),
    'one pixel': ([annotation(10, 10, 1, 1)], 1),
    'less than a pixel': ([annotation(10.2, 10.2, 0.3, 0.3)], 0),
    'no area': ([annotation(10, 10, 0, 0)], 0),
    'negative size': ([annotation(40, 40, -20, -20)], 0),
    'crowd only': ([dict(GOOD, iscrowd=1)], 0),
    'not a number': ([dict(GOOD, bbox=[float('nan'), 20, 40, 40])], 0),
}


@pytest.fixture(scope='module')
def model(shapes):
    """With weights that give finite losses; no test trains it."""
    torch.manual_seed(0)
    model = MODELS.build(config('mmdet', 'SFA', shapes).model)
    model.init_weights()
    return model.train()


@pytest.fixture
def data(tmp_path):
    """Writes a data set of images with the given annotations and returns the config that reads it."""

    def write(*images):
        for name in ('train', 'val', 'annotations'):
            (tmp_path / name).mkdir()
        content = dict(images=[], annotations=[], categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES)])
        for i, annotations in enumerate(images):
            picture = np.random.default_rng(i).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
            for name in ('train', 'val'):
                cv2.imwrite(str(tmp_path / name / f'{i}.png'), picture)
            content['images'].append(dict(id=i, file_name=f'{i}.png', height=SIZE, width=SIZE))
            for a in annotations:
                number = len(content['annotations'])
                content['annotations'].append(dict(iscrowd=0, category_id=0) | a | dict(id=number + 1, image_id=i))
        for name in ('train', 'val'):
            (tmp_path / 'annotations' / f'instances_{name}.json').write_text(json.dumps(content))
        cfg = config('mmdet', 'SFA', tmp_path)
        for dataset in config_datasets(cfg, ('train_dataloader',)):
            dataset.filter_cfg = None  # images without objects are kept
        return cfg

    return write


def loss_and_boxes(model, cfg, images):
    batch = samples(cfg, 'train_dataloader', images)
    boxes = [len(sample.gt_instances) for sample in batch['data_samples']]
    model.zero_grad()
    loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    return loss, boxes


@pytest.mark.parametrize('what', ODD)
def test_odd_annotations_beside_good_ones(model, data, what):
    annotations, expected = ODD[what]
    loss, boxes = loss_and_boxes(model, data(annotations, [GOOD]), 2)
    assert loss.isfinite() and loss > 0 and boxes == [expected, 1]


def test_a_batch_without_any_box(model, data):
    """Everything is background; the branches of boxes and masks get gradients of zero."""
    cfg = data([], [], ODD['outside its image'][0])
    loss, boxes = loss_and_boxes(model, cfg, 3)
    assert loss.isfinite() and loss > 0 and boxes == [0, 0, 0]
    mask_head = [p.grad for p in model.roi_head.mask_head.parameters() if p.grad is not None]
    assert mask_head and not any(gradient.any() for gradient in mask_head)


def test_images_without_objects_are_left_out_by_default(data, shapes):
    cfg = data([], [GOOD])
    default = next(config_datasets(config('mmdet', 'SFA', shapes), ('train_dataloader',))).get('filter_cfg')
    for dataset in config_datasets(cfg, ('train_dataloader',)):
        dataset.filter_cfg = default
    assert [len(s.gt_instances) for s in samples(cfg, 'train_dataloader', 2)['data_samples']] == [1]


def test_the_score_of_odd_annotations(data, tmp_path):
    cfg = data(*(annotations for name, (annotations, _) in ODD.items() if name != 'not a number'), [GOOD])
    cfg = deepcopy(cfg)
    cfg.update(work_dir=str(tmp_path / 'work'), launcher='none')
    cfg.update(train_dataloader=None, train_cfg=None, optim_wrapper=None, param_scheduler=None)
    cfg.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    metrics = launch.build_runner(cfg).test()
    assert 0 <= metrics['coco/bbox_mAP'] <= 1 and 0 <= metrics['coco/segm_mAP'] <= 1
