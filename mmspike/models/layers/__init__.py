"""Layers that know neurons and time, and no network."""

from mmspike.kernels.recompute import Signal

from .attention import SpikeAttention, attend, half_threshold, let_pass, sum_over_channels, sum_over_tokens
from .binary import binarise, binary_weight, is_binary, write_binary_weights
from .blocks import MLP, ConvBlock, Downsample, LayerScale, Residual, branches
from .chain import Chain, run, walk
from .choice import fire, pad
from .conv import ConvNorm, RepConvNorm, SpikingConv, SpikingConvTranspose, SpikingLinear
from .rate import RunningRate
from .repconv import MERGING, NormFirstRepConv, RepConv, build_norm
from .temporal import (
    DropPath,
    channels_inside,
    fold,
    mean_time,
    repeat_time,
    resized,
    stacked_steps,
    unfold,
    unstacked_steps,
)

__all__ = [
    'MERGING',
    'MLP',
    'Chain',
    'ConvBlock',
    'ConvNorm',
    'Downsample',
    'DropPath',
    'LayerScale',
    'NormFirstRepConv',
    'RepConv',
    'RepConvNorm',
    'Residual',
    'RunningRate',
    'Signal',
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
    'fire',
    'fold',
    'half_threshold',
    'is_binary',
    'let_pass',
    'mean_time',
    'pad',
    'repeat_time',
    'resized',
    'run',
    'stacked_steps',
    'sum_over_channels',
    'sum_over_tokens',
    'unfold',
    'unstacked_steps',
    'walk',
    'write_binary_weights',
]
