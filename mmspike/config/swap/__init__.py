"""Put a spiking backbone into a config of mmdet, mmseg or mmpretrain."""

from .configs import SwapError, config_difference, config_path, parse_backbone
from .swap import swap_backbone

__all__ = ['SwapError', 'config_difference', 'config_path', 'parse_backbone', 'swap_backbone']
