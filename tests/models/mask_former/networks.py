"""Small mask transformers and their features."""

import torch
from torch import nn

from mmspike.models.mask_former import SpikingMaskTransformer

SFA, BN = dict(type='SFA', levels=4), dict(type='BN')
SMALL = dict(channels=16, num_queries=6, encoder_layers=1, groups=4, decoder_layers=3, num_heads=2, layer_scale=0.5)
CHANNELS, STRIDES, SIZES = [4, 6, 8], [4, 8, 16], [(12, 18), (6, 9), (3, 5)]


def features(T=1, B=2, dtype=torch.float64):
    return [torch.randn(T, B, c, *s, dtype=dtype) * 2 for c, s in zip(CHANNELS, SIZES, strict=True)]


def trained(model):
    """The model as if it had been trained: norms have statistics, factors and offsets; everything fires."""
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0.7, 0.5)
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model.eval()


def network(neuron=SFA, **kwargs):
    return trained(SpikingMaskTransformer(3, CHANNELS, neuron=neuron, **SMALL | kwargs)).double()
