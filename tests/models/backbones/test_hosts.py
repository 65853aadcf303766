"""Every backbone in a classifier, a detector and a segmentor of the hosts."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from .test_backbones import SMALL, small


@pytest.mark.parametrize('name', SMALL)
def test_classifier(name):
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type=f'mmspike.{name}', out_indices=(-1,), **SMALL[name]),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=small(name).out_channels[-1]),
        )
    )
    images, labels = torch.randn(2, 3, 64, 64), [DataSample().set_gt_label(i) for i in range(2)]
    model(images, labels, mode='loss')['loss'].backward()
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.stages[0].parameters())
    assert model(images, labels, mode='predict')[0].pred_score.sum().item() == pytest.approx(1)


@pytest.mark.parametrize('name', SMALL)
def test_detector(name):
    testing = pytest.importorskip('mmdet.testing')
    init_default_scope('mmdet')
    indices = tuple(range(len(small(name).stages) - 1)) + (-1,)
    channels = small(name, out_indices=indices).out_channels
    strides = small(name, out_indices=indices).out_strides
    head = dict(
        type='RetinaHead',
        num_classes=2,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=strides),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss'),
    )
    model = MODELS.build(
        dict(
            type='RetinaNet',
            data_preprocessor=dict(type='DetDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3, pad_size_divisor=32),
            backbone=dict(type=f'mmspike.{name}', out_indices=indices, **SMALL[name]),
            neck=dict(type='FPN', in_channels=list(channels), out_channels=8, num_outs=len(channels)),
            bbox_head=head,
            train_cfg=dict(
                assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
                sampler=dict(type='PseudoSampler'),
                allowed_border=-1,
                pos_weight=-1,
            ),
        )
    )
    data = testing.demo_mm_inputs(2, [[3, 64, 64]] * 2, num_items=[2, 1], num_classes=2)
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    sum(sum(v) for v in losses.values()).backward()
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.stages[0].parameters())


@pytest.mark.parametrize('name', SMALL)
def test_segmentor(name):
    pytest.importorskip('mmseg')
    init_default_scope('mmseg')
    backbone = small(name, out_indices=('stem', 0, -1))
    head = dict(
        type='FPNHead',
        in_channels=list(backbone.out_channels),
        in_index=[0, 1, 2],
        feature_strides=list(backbone.out_strides),
        channels=8,
        num_classes=3,
    )
    cfg = dict(type=f'mmspike.{name}', out_indices=('stem', 0, -1), **SMALL[name])
    model = MODELS.build(dict(type='EncoderDecoder', backbone=cfg, decode_head=head, test_cfg=dict(mode='whole')))
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 48), mode='tensor')
    assert logits.shape == (1, 3, 64 // backbone.out_strides[0], 48 // backbone.out_strides[0])
