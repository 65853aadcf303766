"""Self-supervised pretraining. Needs mmpretrain."""

from .decoder import SpikeMAEDecoder
from .spike_mae import SpikeMAE

__all__ = ['SpikeMAE', 'SpikeMAEDecoder']
