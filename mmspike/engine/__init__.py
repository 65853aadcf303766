"""Additions to the Runner of mmengine: hooks, metrics, optimizer constructors, strategies."""

from typing import TYPE_CHECKING, Any

from . import hooks
from .hooks import *  # noqa: F403
from .layer_decay import LayerDecayOptimWrapperConstructor
from .metrics import PropheseeMetric
from .optim import CPUAmpOptimWrapper, OptimWrapperConstructor

__all__ = ['CPUAmpOptimWrapper', 'LayerDecayOptimWrapperConstructor', 'OptimWrapperConstructor', 'PropheseeMetric']
__all__ += hooks.__all__

if TYPE_CHECKING:  # names of hooks come from their files

    def __getattr__(name: str) -> Any: ...
