"""Whole detectors, spiking from end to end, through the host's losses, samplers and post-processing."""

from copy import deepcopy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from ..spikes import assert_weights_read_spikes


def tiny(repo, name, T=1):
    """The config with a small backbone, narrow heads and few boxes."""
    cfg = Config.fromfile(repo / 'configs' / name)
    init_default_scope('mmdet')
    model = cfg.model
    model.backbone.arch = dict(dims=(8, 16, 16, 24), depths=(1, 1, 1, 1, 1))
    if T > 1:
        model.backbone.update(T=T)
    model.neck.update(in_channels=[16, 24] if 'retina' in name else [8, 16, 24], out_channels=16)
    if 'retina' in name:
        model.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1)
        model.test_cfg.score_thr = 0.0
        return cfg
    model.rpn_head.update(in_channels=16, feat_channels=16)
    roi = model.roi_head
    heads = roi.bbox_head if isinstance(roi.bbox_head, list) else [roi.bbox_head]
    for head in heads:
        head.update(in_channels=16, fc_out_channels=16)
        if 'Conv' in head.type:
            head.update(conv_out_channels=16)
    roi.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1)
    roi.bbox_roi_extractor.out_channels = roi.mask_roi_extractor.out_channels = 16
    rcnn = model.train_cfg.rcnn
    for stage in rcnn if isinstance(rcnn, list) else [rcnn]:
        stage.sampler.num = 16
    model.train_cfg.rpn_proposal.max_per_img = 50
    model.test_cfg.rcnn.score_thr = 0.0
    return cfg


def data(model, with_mask=True):
    inputs = demo_mm_inputs(2, [[3, 96, 64], [3, 80, 96]], num_items=[3, 2], num_classes=4, with_mask=with_mask)
    return model.data_preprocessor(inputs, True)


CASES = [
    ('mask_rcnn_metaspike_coco.py', 2),
    ('mask_rcnn_espike_coco.py', 1),
    ('mask_rcnn_espike_coco.py', 2),
    ('cascade_mask_rcnn_espike_coco.py', 1),
    ('cascade_mask_rcnn_espike_coco.py', 2),
    ('retinanet_espike_coco.py', 1),
    ('retinanet_metaspike_coco.py', 2),
]


@pytest.mark.parametrize(('name', 'T'), CASES)
def test_loss_and_predictions(repo, name, T):
    cfg = tiny(repo, name, T)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    batch = data(model, 'rcnn' in name)
    with assert_weights_read_spikes(nn.ModuleList([model.neck, *heads_of(model)])):
        losses = model.loss(**{'batch_inputs': batch['inputs'], 'batch_data_samples': batch['data_samples']})
    total = sum(v if isinstance(v, torch.Tensor) else sum(v) for k, v in losses.items() if 'loss' in k)
    assert total.isfinite()
    total.backward()
    # a level without boxes is in the graph all the same
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        results = model.eval().predict(batch['inputs'], batch['data_samples'])
    for result in results:
        boxes = result.pred_instances
        assert len(boxes) > 0 and boxes.bboxes.shape == (len(boxes), 4) and boxes.scores.isfinite().all()
        assert 'retina' in name or boxes.masks.shape == (len(boxes), *result.ori_shape[:2])
    with torch.no_grad():
        assert len(model(batch['inputs'], batch['data_samples'], mode='tensor')) > 0


def heads_of(model):
    if not hasattr(model, 'roi_head'):
        return [model.bbox_head]
    roi = model.roi_head
    return [model.rpn_head, roi.bbox_head, roi.mask_head]


def test_a_batch_is_its_images(repo):
    """Features are indexed by image inside the host's RoI heads: with T = 2 and one image in front of the other, too."""
    cfg = tiny(repo, 'mask_rcnn_espike_coco.py', T=2)
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    inputs = demo_mm_inputs(2, [[3, 96, 96], [3, 96, 96]], num_items=[3, 2], num_classes=4, with_mask=True)
    batch = model.data_preprocessor(inputs, False)
    with torch.no_grad():
        together = model.predict(batch['inputs'], deepcopy(batch['data_samples']))
        for i in range(2):
            alone = model.predict(batch['inputs'][i : i + 1], deepcopy(batch['data_samples'][i : i + 1]))[0]
            torch.testing.assert_close(together[i].pred_instances.scores, alone.pred_instances.scores)
            torch.testing.assert_close(together[i].pred_instances.bboxes, alone.pred_instances.bboxes)
            assert torch.equal(together[i].pred_instances.masks, alone.pred_instances.masks)


def test_hard_mining_sampler(repo):
    """mmdet's OHEM hands single images to the box head."""
    cfg = tiny(repo, 'mask_rcnn_espike_coco.py', T=2)
    cfg.model.train_cfg.rcnn.sampler.type = 'OHEMSampler'
    model = MODELS.build(cfg.model).train()
    batch = data(model)
    assert model.loss(batch['inputs'], batch['data_samples'])['loss_cls'].isfinite()


def test_mask_head_on_the_features_of_the_box_head(repo):
    cfg = tiny(repo, 'mask_rcnn_espike_coco.py', T=2)
    cfg.model.roi_head.mask_roi_extractor = None
    cfg.model.train_cfg.rcnn.mask_size = 14
    model = MODELS.build(cfg.model).train()
    batch = data(model)
    assert model.loss(batch['inputs'], batch['data_samples'])['loss_mask'].isfinite()


@pytest.mark.parametrize(
    'name', ['mask_rcnn_espike_coco.py', 'cascade_mask_rcnn_espike_coco.py', 'retinanet_metaspike_coco.py']
)
def test_no_weight_decay_on_norms_and_biases(repo, name):
    cfg = tiny(repo, name)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {id(p): g['weight_decay'] for g in wrapper.optimizer.param_groups for p in g['params']}
    norms = {id(p) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) for p in m.parameters()}
    for key, p in model.named_parameters():
        exempt = id(p) in norms or key.endswith('.bias')
        assert decay[id(p)] == (0 if exempt else cfg.optim_wrapper.optimizer.weight_decay), key
    assert norms
