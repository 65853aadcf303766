"""Layers that know neurons and time, and no network."""

from .attention import attention_neuron
from .blocks import MLP, ConvBlock, Downsample
from .conv import ConvNorm, RepConv, build_norm
from .rate import RunningRate
from .temporal import DropPath, fold, repeat_time, unfold
from .unit import SpikingConv, SpikingConvTranspose, SpikingLinear

__all__ = [
    'MLP',
    'ConvBlock',
    'ConvNorm',
    'Downsample',
    'DropPath',
    'RepConv',
    'RunningRate',
    'SpikingConv',
    'SpikingConvTranspose',
    'SpikingLinear',
    'attention_neuron',
    'build_norm',
    'fold',
    'repeat_time',
    'unfold',
]
