"""Spiking models. What needs a missing host library is a placeholder that raises and names the package."""

from mmspike.registry import MODELS
from mmspike.utils.optional import is_installed, register_placeholder

from .backbones import ESpikeFormer, MetaSpikeFormer, SpikingBackbone
from .neurons import IF, ILIF, LIF, NILIF, PLIF, SFA, build_neuron

if is_installed('mmpretrain'):
    from .classification import DistilledImageClassifier, SpikingLinearClsHead
else:
    DistilledImageClassifier = register_placeholder(MODELS, 'DistilledImageClassifier', 'mmpretrain')
    SpikingLinearClsHead = register_placeholder(MODELS, 'SpikingLinearClsHead', 'mmpretrain')

__all__ = [
    'IF',
    'ILIF',
    'LIF',
    'NILIF',
    'PLIF',
    'SFA',
    'DistilledImageClassifier',
    'ESpikeFormer',
    'MetaSpikeFormer',
    'SpikingBackbone',
    'SpikingLinearClsHead',
    'build_neuron',
]
