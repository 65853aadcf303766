"""Weights of one bit in whole networks of the hosts: which layers have them, and that these learn."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmspike.models.layers import is_binary

DIMS = dict(dims=(16, 16, 32, 48), num_heads=2)


def detector(repo):
    pytest.importorskip('mmdet')
    model = Config.fromfile(repo / 'configs/mask_rcnn_espike_nuclei.py').model
    model.backbone.update(arch=DIMS, binary=True)
    model.neck.update(in_channels=[16, 16, 48], binary=True)
    model.rpn_head.binary = model.roi_head.bbox_head.binary = model.roi_head.mask_head.binary = True
    outputs = {'rpn_head.rpn_cls', 'rpn_head.rpn_reg', 'roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.fc_reg'}
    return 'mmdet', model, outputs | {'roi_head.mask_head.conv_logits'}


def segmentor(repo):
    pytest.importorskip('mmseg')
    model = Config.fromfile(repo / 'configs/fpn_espike_nuclei.py').model
    model.backbone.update(arch=DIMS, binary=True)
    model.neck.update(in_channels=[8, 16, 16, 48], binary=True)
    model.decode_head.binary = True
    return 'mmseg', model, {'decode_head.conv_seg'}


def full_layers(model):
    """Names of layers with weights of full precision, without the first one and depthwise ones."""
    layers = {k: m for k, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))}
    assert sum(map(is_binary, layers.values())) > 20
    return {k for k, m in layers.items() if not is_binary(m) and getattr(m, 'groups', 1) == 1 and 'backbone.stem.0' not in k}


@pytest.mark.parametrize('make', [detector, segmentor])
def test_all_hidden_layers_are_binary(make, repo):
    scope, cfg, outputs = make(repo)
    init_default_scope(scope)
    model = MODELS.build(copy.deepcopy(cfg))
    assert {k.removesuffix('.conv').removesuffix('.fc') for k in full_layers(model)} == outputs
    features = model.extract_feat(torch.randn(1, 3, 64, 64))
    sum(f.square().mean() for f in features).backward()
    binary = [m for m in [*model.backbone.modules(), *model.neck.modules()] if is_binary(m)]
    assert sum(bool(m.weight.grad is not None and m.weight.grad.any()) for m in binary) > 0.8 * len(binary)
