"""Spiking heads of detectors."""

from .bbox_head import SpikingConvFCBBoxHead, SpikingShared2FCBBoxHead, SpikingShared4Conv1FCBBoxHead
from .dense_heads import SpikingRetinaHead, SpikingRPNHead
from .mask_head import SpikingFCNMaskHead
from .roi_head import SpikingCascadeRoIHead, SpikingRoIExtractor, SpikingStandardRoIHead
from .yolo_head import SpikingYOLOHead

__all__ = [
    'SpikingCascadeRoIHead',
    'SpikingConvFCBBoxHead',
    'SpikingFCNMaskHead',
    'SpikingRPNHead',
    'SpikingRetinaHead',
    'SpikingRoIExtractor',
    'SpikingShared2FCBBoxHead',
    'SpikingShared4Conv1FCBBoxHead',
    'SpikingStandardRoIHead',
    'SpikingYOLOHead',
]
