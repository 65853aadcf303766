"""Layers that know neurons and time, and no network."""

from .attention import attention_neuron
from .binary import binarise, binary_weight, is_binary, write_binary_weights
from .blocks import MLP, ConvBlock, Downsample
from .chain import attend, chain
from .conv import ConvNorm, RepConv, RepConvNorm, build_norm
from .rate import RunningRate
from .temporal import DropPath, channels_inside, fold, mean_time, repeat_time, unfold
from .unit import SpikingConv, SpikingConvTranspose, SpikingLinear

__all__ = [
    'MLP',
    'ConvBlock',
    'ConvNorm',
    'Downsample',
    'DropPath',
    'RepConv',
    'RepConvNorm',
    'RunningRate',
    'SpikingConv',
    'SpikingConvTranspose',
    'SpikingLinear',
    'attend',
    'attention_neuron',
    'binarise',
    'binary_weight',
    'build_norm',
    'chain',
    'channels_inside',
    'fold',
    'is_binary',
    'mean_time',
    'repeat_time',
    'unfold',
    'write_binary_weights',
]
