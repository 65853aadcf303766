"""Spiking backbones: one published architecture, one file, which is imported because it lies here."""

from typing import TYPE_CHECKING, Any

from mmspike.utils.registered import import_registered

from .base import SpikingBackbone

__all__ = ['SpikingBackbone']
__all__ += import_registered(__name__, globals())

if TYPE_CHECKING:  # the names come from the files

    def __getattr__(name: str) -> Any: ...
