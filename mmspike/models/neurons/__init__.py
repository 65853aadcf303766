"""Neurons: membrane -> spikes. Each is a pure function over all T steps and a module around it."""

from .base import BaseNeuron, build_neuron
from .lif import IF, LIF, PLIF, integrate_and_fire, lif
from .surrogate import SURROGATES

__all__ = ['IF', 'LIF', 'PLIF', 'SURROGATES', 'BaseNeuron', 'build_neuron', 'integrate_and_fire', 'lif']
