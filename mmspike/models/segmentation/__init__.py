"""Semantic segmentation with spikes. Needs mmsegmentation."""

from .decode_head import SpikingDecodeHead
from .deeplab_head import SpikingDeepLabHead
from .fcn_head import SpikingFCNHead
from .fpn_head import SpikingFPNHead

__all__ = ['SpikingDecodeHead', 'SpikingDeepLabHead', 'SpikingFCNHead', 'SpikingFPNHead']
