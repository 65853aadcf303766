"""Layers that know neurons and time, and no network."""

from mmspike.kernels.layout import fold, unfold
from mmspike.kernels.recompute import Signal

from .attention import PointwiseAttention, SpikeAttention, attend, half_threshold, let_pass, sum_over_channels, sum_over_tokens
from .binary import binarise, binary_weight, is_binary, write_binary_weights
from .blocks import MLP, ConvBlock, Downsample, LayerScale, Residual, branches
from .chain import Chain, run, walk
from .choice import fire, pad
from .conv import ConvNorm, RepConvNorm, SpikingConv, SpikingConvTranspose, SpikingLinear
from .low_bit import (
    bits_of,
    few_bits,
    rounded_weight,
    set_weight_bits,
    used_weight,
    weight_bits,
    write_low_bit_weights,
)
from .rate import RunningRate
from .repconv import MERGING, NormFirstRepConv, RepConv, build_norm
from .temporal import DropPath, channels_inside, mean_time, repeat_time, resized, stacked_steps, unstacked_steps

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
    'PointwiseAttention',
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
    'bits_of',
    'branches',
    'build_norm',
    'channels_inside',
    'few_bits',
    'fire',
    'fold',
    'half_threshold',
    'is_binary',
    'let_pass',
    'mean_time',
    'pad',
    'repeat_time',
    'resized',
    'rounded_weight',
    'run',
    'set_weight_bits',
    'stacked_steps',
    'sum_over_channels',
    'sum_over_tokens',
    'unfold',
    'unstacked_steps',
    'used_weight',
    'walk',
    'weight_bits',
    'write_binary_weights',
    'write_low_bit_weights',
]
