"""Spiking backbones: one published architecture, one file."""

from .base import SpikingBackbone
from .meta_spikeformer import MetaSpikeFormer

__all__ = ['MetaSpikeFormer', 'SpikingBackbone']
