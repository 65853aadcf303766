"""Spiking necks."""

from .spiking_fpn import SpikingFPN
from .temporal_mean import TemporalMean

__all__ = ['SpikingFPN', 'TemporalMean']
