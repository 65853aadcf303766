"""Energy, firing rates and pictures of networks, observed from outside: nothing here changes a network."""

from .costs import PRESETS
from .counter import LayerRecord, NeuronRecord, OpCounter
from .energy import EnergyReport, measure_energy

__all__ = ['PRESETS', 'EnergyReport', 'LayerRecord', 'NeuronRecord', 'OpCounter', 'measure_energy']
