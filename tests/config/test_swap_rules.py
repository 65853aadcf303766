"""What a swap changes in a config and what it keeps; names of configs and backbones; differences of configs."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from swapping import SMALL, build, load, set_keys

from mmspike.config.swap import SwapError, config_difference, config_path, parse_backbone, swap_backbone
from mmspike.utils.errors import UserError

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def test_detector_keeps_strides():
    """Features of the same strides and anchors as before; stride 32, which the backbone lacks, is a further stage."""
    old = load('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    cfg, notes = swap_backbone(old, parse_backbone(SMALL))
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.num_stages, backbone.out_indices) == ('mmspike.ExtraStages', 1, (0, 1, 2, 3))
    assert backbone.backbone.out_indices == (0, 1, 3)
    assert backbone.neuron == dict(type='SFA', levels=4, divisor=4, rounding='even')
    assert cfg.model.neck == dict(old.model.neck, in_channels=[16, 24, 40, 40])
    assert cfg.model.bbox_head == old.model.bbox_head
    feats = build(cfg).extract_feat(torch.zeros(1, 3, 128, 128))
    assert [128 // f.shape[-1] for f in feats] == [8, 16, 32, 64, 128]
    assert any('channels 256 at stride 4, 512 at stride 8' in note and '40 at stride 32 now' in note for note in notes)
    assert any('model.backbone.init_cfg' in note for note in notes)


def test_only_coarse_features():
    """DETR reads stride 32 alone, C4 detectors stride 16."""
    cfg, _ = swap_backbone(load('mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py'), parse_backbone(SMALL))
    assert (cfg.model.backbone.backbone.out_indices, cfg.model.backbone.out_indices) == ((3,), (1,))
    assert cfg.model.neck.in_channels == 40
    assert [f.shape[-1] for f in build(cfg).backbone(torch.zeros(1, 3, 128, 128))] == [4]


def test_decode_heads_follow_their_features():
    """A dilated ResNet gives strides 4, 8, 8, 8; every head reads the feature at its index, and DeepLabV3+ the finest, too."""
    old = load('mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py')
    cfg, _ = swap_backbone(old, parse_backbone(SMALL))
    model = cfg.model
    assert model.backbone.out_indices == (0, 1, 2, 3)
    assert (model.decode_head.in_channels, model.decode_head.c1_in_channels, model.auxiliary_head.in_channels) == (40, 16, 32)
    old_head = dict(old.model.decode_head, in_channels=40, c1_in_channels=16)
    assert model.decode_head == old_head


def test_semantic_fpn_is_told_the_strides():
    cfg, _ = swap_backbone(load('mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py'), parse_backbone(SMALL))
    assert cfg.model.neck.in_channels == [16, 24, 32, 40]
    assert cfg.model.decode_head.feature_strides == [4, 8, 16, 16]
    assert cfg.model.decode_head.in_channels == [256] * 4


def test_pooled_backbone_gets_a_pooling_neck():
    cfg, _ = swap_backbone(load('mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'), parse_backbone(SMALL))
    assert cfg.model.neck.type == 'GlobalAveragePooling'
    assert (cfg.model.head.in_channels, cfg.model.backbone.out_indices) == (40, (3,))


def test_reversed_channels():
    """YOLOv3's neck lists the coarsest feature first."""
    cfg, _ = swap_backbone(load('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py'), parse_backbone(SMALL))
    assert cfg.model.neck.in_channels == [40, 40, 24]


def test_whole_model_weights_and_layer_decay_are_dropped():
    old = load('mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py')
    old.load_from = 'whole_model.pth'
    old.optim_wrapper.paramwise_cfg.norm_decay_mult = 0.0
    cfg, notes = swap_backbone(old, parse_backbone(SMALL))
    assert cfg.load_from is None
    assert 'constructor' not in cfg.optim_wrapper
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0)
    assert any('load_from' in note for note in notes)
    assert any('LearningRateDecayOptimizerConstructor' in note for note in notes)
    assert cfg.custom_imports.imports == ['mmpretrain.models', 'mmspike']


def test_pretrained_backbone_stays_in_the_config():
    init_cfg = dict(type='Pretrained', checkpoint='converted.pth')
    cfg, notes = swap_backbone(
        load('mmpretrain::resnet/resnet50_8xb32_in1k.py'), parse_backbone(SMALL) | dict(init_cfg=init_cfg)
    )
    assert cfg.model.backbone.init_cfg == init_cfg
    assert not any('random weights' in note for note in notes)


def test_plain_transformer_whose_neck_makes_the_pyramid():
    cfg = load('mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py')
    cfg.model.backbone.update(embed_dims=24, num_heads=2, num_layers=4, out_indices=(0, 1, 2, 3))
    cfg.model.neck.update(in_channels=[24] * 4, out_channels=24)
    with pytest.raises(SwapError, match=r'neck \(MultiLevelNeck\) gave the heads strides \[4, 8, 16, 32\] .* \[1, 4, 16, 32\]'):
        swap_backbone(cfg, parse_backbone(SMALL))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'neck.in_channels': [1, 2, 3, 4]}, r'neck \(FPN\).in_channels=\[1, 2, 3, 4\] are not channels .* 256 at stride 4'),
        ({'neck.num_outs': 3}, 'prediction .* fails in RetinaNet: AssertionError: "assert self.num_levels == len'),
        ({'bbox_head.in_channels': 7}, r'bbox_head.cls_convs.0.conv .*to have 7 channels, but got 256'),
        ({'backbone.depth': 51}, r'backbone \(ResNet\) cannot be built: KeyError: .*invalid depth 51'),
    ],
)
def test_faulty_config_is_refused(change, message):
    cfg = load('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    set_keys(cfg.model, change)
    with pytest.raises(SwapError, match=message):
        swap_backbone(cfg, parse_backbone(SMALL))


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        ('mmspike.ESpikeFormer:xxl', r"has no arch 'xxl': choose one of"),
        ('mmspike.ESpikeFormer:t,out_indices=(0,)', 'leave out out_indices'),
        ('mmspike.ESpikeFormer:t,temporal_output="keep"', 'leave out temporal_output'),
        ('mmdet.ResNet,depth=18', 'ResNet is no spiking backbone of mmspike'),
        ('ResNet,depth=18', 'there is no backbone ResNet, did you mean'),
        ('mmspike.ESpikFormer:t', r'no backbone mmspike.ESpikFormer, did you mean mmspike.ESpikeFormer or'),
        ('MetaSpikeformer:15m', r'no backbone MetaSpikeformer, did you mean mmspike.MetaSpikeFormer'),
        ('mmspike.ESpikeFormer:t,neuron=LIF', r'strings in quotes \(LIF is no Python literal\)'),
    ],
)
def test_faulty_backbone_is_refused(backbone, message):
    cfg = load('mmpretrain::resnet/resnet18_8xb16_cifar10.py')
    with pytest.raises(SwapError, match=message):
        swap_backbone(cfg, parse_backbone(backbone))


@pytest.mark.parametrize('name', ['mask_rcnn_espike_nuclei.py', 'fpn_espike_nuclei.py', 'espike_cifar10.py'])
def test_one_spiking_backbone_for_another(name):
    """Necks and heads that read time steps get them from the new backbone, too."""
    arch = dict(dims=(16, 24, 32, 40), depths=(1, 1, 1, 1, 1))
    old = Config.fromfile(CONFIGS / name)
    cfg, notes = swap_backbone(old, dict(type='mmspike.MetaSpikeFormer', arch=arch, T=2))
    assert cfg.model.backbone.type == 'mmspike.MetaSpikeFormer' and cfg.model.backbone.temporal_output == 'keep'
    assert cfg.model.backbone.out_indices == old.model.backbone.out_indices
    if name == 'espike_cifar10.py':
        assert cfg.model.head == old.model.head | dict(in_channels=40)
    else:
        widths = dict(zip(('stem', 0, 1, 3), (8, 16, 24, 40), strict=True))
        assert cfg.model.neck == old.model.neck | dict(in_channels=[widths[i] for i in old.model.backbone.out_indices])
    assert 'neck and heads that read time steps stay as they are, with neurons of their own' in notes


def test_event_config_keeps_its_time_steps(recwarn):
    cfg = Config.fromfile(CONFIGS / 'spikformer_nmnist.py')
    new, _ = swap_backbone(cfg, parse_backbone('ESpikeFormer:t'))
    assert (new.model.backbone.T, new.model.backbone.in_channels) == (cfg.model.backbone.T, 2)
    assert new.model.head.in_channels == 128
    assert not [w for w in recwarn if 'computes the same' in str(w.message)]
    with pytest.raises(SwapError, match='T=3, but the pipelines of this config count events in 4 frames: leave T out'):
        swap_backbone(cfg, parse_backbone('ESpikeFormer:t,T=3'))


def test_learning_rate_of_the_old_backbone_is_named():
    _, notes = swap_backbone(load('mmpretrain::resnet/resnet18_8xb16_cifar10.py'), parse_backbone(SMALL))
    assert any(note.startswith('the learning rate 0.1 (SGD) was made for the old backbone') for note in notes)


def test_backbone_from_the_command_line():
    parse = parse_backbone
    assert parse('mmspike.ESpikeFormer:m') == parse('ESpikeFormer:m') == dict(type='mmspike.ESpikeFormer', arch='m')
    assert parse('mmspike.MetaSpikeFormer:metaspikeformer-15m,T=2') == dict(
        type='mmspike.MetaSpikeFormer', arch='metaspikeformer-15m', T=2
    )
    assert parse("mmspike.ESpikeFormer,neuron=dict(type='LIF', tau=2.0), drop_path_rate=0.1") == dict(
        type='mmspike.ESpikeFormer', neuron=dict(type='LIF', tau=2.0), drop_path_rate=0.1
    )
    for faulty in ('', 'a b', 'mmspike.ESpikeFormer:m,T', 'mmspike.ESpikeFormer,T=two', 'mmspike.ESpikeFormer:m,T=open("x")'):
        with pytest.raises(SwapError, match='expected TYPE'):
            parse(faulty)
    with pytest.raises(SwapError, match='given twice'):
        parse('mmspike.ESpikeFormer:m,arch="t"')


def test_config_names(tmp_path):
    assert Config.fromfile(config_path('mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py')).default_scope == 'mmseg'
    path = tmp_path / 'config.py'
    path.write_text('a = 1')
    assert config_path(str(path)) == str(path)
    for name, message in [
        ('mmseg::fcn/none.py', 'mmseg has no fcn/none.py in its configs'),
        ('mmpose::a/b.py', 'mmpose is none of mmdet, mmseg, mmpretrain'),
        ('none.py', 'config none.py does not exist'),
    ]:
        with pytest.raises(UserError, match=message):
            config_path(name)


def test_difference():
    old = Config(dict(a=1, model=dict(type='A', neck=dict(type='B', c=1, d=[1]), heads=[dict(e=1), dict(e=2)], gone=0)))
    new = Config(dict(a=1, model=dict(type='A', neck=dict(type='C', f=1), heads=[dict(e=1), dict(e=3, g=4)]), h=5))
    assert config_difference(old, new).splitlines() == [
        "- model.neck = {'type': 'B', 'c': 1, 'd': [1]}",
        "+ model.neck = {'type': 'C', 'f': 1}",
        '- model.heads[1].e = 2',
        '+ model.heads[1].e = 3',
        '+ model.heads[1].g = 4',
        '- model.gone = 0',
        '+ h = 5',
    ]
    assert config_difference(old, old) == ''
