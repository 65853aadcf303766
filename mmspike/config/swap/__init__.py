"""Put a spiking backbone into a config of mmdet, mmseg or mmpretrain."""

from mmspike.config.difference import config_difference
from mmspike.config.names import config_path

from .parse import SwapError, parse_backbone
from .swap import swap_backbone

__all__ = ['SwapError', 'config_difference', 'config_path', 'parse_backbone', 'swap_backbone']
