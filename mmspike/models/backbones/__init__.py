"""Spiking backbones: one published architecture, one file."""

from .base import SpikingBackbone
from .e_spikeformer import ESpikeFormer
from .e_spikeformer_large import ESpikeFormerLarge
from .extra_stages import ExtraStages
from .meta_spikeformer import MetaSpikeFormer
from .saformer import SAFormer
from .spike_driven_transformer import SpikeDrivenTransformer
from .spikeformer import Spikeformer
from .spikformer import Spikformer
from .spiking_resformer import SpikingResformer
from .spiking_vgg import SpikingVGG
from .spiking_yolo import SpikingYOLOBackbone

__all__ = [
    'ESpikeFormer',
    'ESpikeFormerLarge',
    'ExtraStages',
    'MetaSpikeFormer',
    'SAFormer',
    'SpikeDrivenTransformer',
    'Spikeformer',
    'Spikformer',
    'SpikingBackbone',
    'SpikingResformer',
    'SpikingVGG',
    'SpikingYOLOBackbone',
]
