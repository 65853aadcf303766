"""Layers that know neurons and time, and no network."""

from .attention import SpikeAttention, attend, half_threshold
from .binary import binarise, binary_weight, is_binary, write_binary_weights
from .blocks import MLP, ConvBlock, Downsample, LayerScale, Residual, branches
from .chain import Chain, run
from .conv import ConvNorm, RepConvNorm, SpikingConv, SpikingConvTranspose, SpikingLinear
from .rate import RunningRate
from .repconv import RepConv, build_norm
from .temporal import DropPath, channels_inside, fold, mean_time, repeat_time, unfold

__all__ = [
    'MLP',
    'Chain',
    'ConvBlock',
    'ConvNorm',
    'Downsample',
    'DropPath',
    'LayerScale',
    'RepConv',
    'RepConvNorm',
    'Residual',
    'RunningRate',
    'SpikeAttention',
    'SpikingConv',
    'SpikingConvTranspose',
    'SpikingLinear',
    'attend',
    'binarise',
    'binary_weight',
    'branches',
    'build_norm',
    'channels_inside',
    'fold',
    'half_threshold',
    'is_binary',
    'mean_time',
    'repeat_time',
    'run',
    'unfold',
    'write_binary_weights',
]
