"""Classification with spikes. Needs mmpretrain."""

from typing import TYPE_CHECKING, Any

from mmspike.utils.registered import import_registered

__all__ = import_registered(__name__, globals())

if TYPE_CHECKING:  # the names come from the files

    def __getattr__(name: str) -> Any: ...
