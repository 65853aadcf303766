"""Spiking models. Those that need a host library are in :mod:`mmspike.models.hosted`, which the registry imports."""

from typing import TYPE_CHECKING, Any

from . import backbones, necks
from .backbones import *  # noqa: F403
from .low_bit_model import LowBitModel
from .necks import *  # noqa: F403
from .neurons import IF, ILIF, LIF, NILIF, PLIAF, PLIF, SFA, build_neuron

__all__ = ['IF', 'ILIF', 'LIF', 'LowBitModel', 'NILIF', 'PLIAF', 'PLIF', 'SFA', 'build_neuron']
__all__ += backbones.__all__
__all__ += necks.__all__

if TYPE_CHECKING:  # the names come from the files

    def __getattr__(name: str) -> Any: ...
