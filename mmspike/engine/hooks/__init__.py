"""Hooks of our runs, one a file."""

from typing import TYPE_CHECKING, Any

from mmspike.utils.registered import import_registered

from .epoch_length_hook import EpochLengthHook
from .obey_config_hook import ObeyConfigHook
from .stride_check_hook import check_strides

__all__ = ['EpochLengthHook', 'ObeyConfigHook', 'check_strides']
__all__ += import_registered(__name__, globals())

if TYPE_CHECKING:  # the names come from the files

    def __getattr__(name: str) -> Any: ...
