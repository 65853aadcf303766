"""Neurons: membrane -> spikes. Each is a pure function over all T steps and a module around it.

Names are written by hand: the rest of the package has the types of neurons from them. tests/utils/test_registered.py holds
them against the files.
"""

from .analogue import PLIAF
from .base import BaseNeuron, build_neuron
from .firing import IF, LIF, PLIF, integrate_and_fire, lif
from .integer import ILIF, NILIF, SFA, integer_lif, sfa
from .quantised import ClipFloorShift
from .surrogate import SURROGATES

__all__ = [
    'IF',
    'ILIF',
    'LIF',
    'NILIF',
    'PLIAF',
    'PLIF',
    'SFA',
    'SURROGATES',
    'BaseNeuron',
    'ClipFloorShift',
    'build_neuron',
    'integer_lif',
    'integrate_and_fire',
    'lif',
    'sfa',
]
