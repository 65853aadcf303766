"""Semantic segmentation with spikes. Needs mmsegmentation."""

from typing import TYPE_CHECKING, Any

from mmspike.utils.registered import import_registered

from .decode_head import SpikingDecodeHead

__all__ = ['SpikingDecodeHead']
__all__ += import_registered(__name__, globals())

if TYPE_CHECKING:  # the names come from the files

    def __getattr__(name: str) -> Any: ...
