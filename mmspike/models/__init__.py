"""Spiking models. What needs a missing host library is a placeholder that raises and names the package."""

from mmspike.registry import MODELS
from mmspike.utils.optional import is_installed, register_placeholder

from .backbones import MetaSpikeFormer, SpikingBackbone
from .neurons import IF, LIF, PLIF, build_neuron

if is_installed('mmpretrain'):
    from .classification import SpikingLinearClsHead
else:
    SpikingLinearClsHead = register_placeholder(MODELS, 'SpikingLinearClsHead', 'mmpretrain')

__all__ = ['IF', 'LIF', 'PLIF', 'MetaSpikeFormer', 'SpikingBackbone', 'SpikingLinearClsHead', 'build_neuron']
