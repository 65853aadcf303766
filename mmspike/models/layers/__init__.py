"""Layers that know neurons and time, and no network."""

from .conv import ConvNorm, RepConv, build_norm
from .temporal import DropPath, fold, repeat_time, unfold

__all__ = ['ConvNorm', 'DropPath', 'RepConv', 'build_norm', 'fold', 'repeat_time', 'unfold']
