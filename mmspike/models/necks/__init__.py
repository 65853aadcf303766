"""Spiking necks."""

from .spiking_fpn import SpikingFPN
from .spiking_simple_pyramid import SpikingSimplePyramid
from .spiking_yolo_pafpn import SpikingYOLOPAFPN
from .temporal_mean import TemporalMean

__all__ = ['SpikingFPN', 'SpikingSimplePyramid', 'SpikingYOLOPAFPN', 'TemporalMean']
