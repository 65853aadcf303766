"""Spiking models. Those that need a host library are in :mod:`mmspike.models.hosted`, which the registry imports."""

from .backbones import (
    ESpikeFormer,
    ESpikeFormerLarge,
    ExtraStages,
    MetaSpikeFormer,
    SAFormer,
    SpikeDrivenTransformer,
    Spikeformer,
    Spikformer,
    SpikingBackbone,
    SpikingResformer,
    SpikingVGG,
)
from .necks import SpikingFPN, SpikingSimplePyramid, TemporalMean
from .neurons import IF, ILIF, LIF, NILIF, PLIAF, PLIF, SFA, build_neuron

__all__ = [
    'IF',
    'ILIF',
    'LIF',
    'NILIF',
    'PLIAF',
    'PLIF',
    'SFA',
    'ESpikeFormer',
    'ESpikeFormerLarge',
    'ExtraStages',
    'MetaSpikeFormer',
    'SAFormer',
    'SpikeDrivenTransformer',
    'Spikeformer',
    'Spikformer',
    'SpikingBackbone',
    'SpikingFPN',
    'SpikingResformer',
    'SpikingSimplePyramid',
    'SpikingVGG',
    'TemporalMean',
    'build_neuron',
]
