"""The spiking mask transformer of Spike2Former: a network that finds masks by queries, and what both hosts' heads share."""

from .pixel_decoder import DeformableSampling, SpikingPixelDecoder
from .queries_to_masks import MaskProduct, QueriesToMasks, Sign
from .query_decoder import QueryAttention, SpikingQueryDecoder
from .transformer import SpikingMaskTransformer

__all__ = [
    'DeformableSampling',
    'MaskProduct',
    'QueriesToMasks',
    'QueryAttention',
    'Sign',
    'SpikingMaskTransformer',
    'SpikingPixelDecoder',
    'SpikingQueryDecoder',
]
