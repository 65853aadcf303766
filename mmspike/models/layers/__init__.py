"""Layers that know neurons and time, and no network."""

from .blocks import MLP, ConvBlock, Downsample
from .conv import ConvNorm, RepConv, build_norm
from .temporal import DropPath, fold, repeat_time, unfold

__all__ = [
    'MLP',
    'ConvBlock',
    'ConvNorm',
    'Downsample',
    'DropPath',
    'RepConv',
    'build_norm',
    'fold',
    'repeat_time',
    'unfold',
]
