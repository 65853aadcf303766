"""What our runs add to the Runner of mmengine: hooks, optimizer constructors, strategies."""

from .hooks import (
    FiniteLossHook,
    FiringRateHook,
    IterationSeedHook,
    ObeyConfigHook,
    SafeCheckpointHook,
    SkippedImagesHook,
    SpikeResetHook,
    StrideCheckHook,
)
from .layer_decay import LayerDecayOptimWrapperConstructor
from .optim import CPUAmpOptimWrapper, OptimWrapperConstructor

__all__ = [
    'CPUAmpOptimWrapper',
    'FiniteLossHook',
    'FiringRateHook',
    'IterationSeedHook',
    'LayerDecayOptimWrapperConstructor',
    'ObeyConfigHook',
    'OptimWrapperConstructor',
    'SafeCheckpointHook',
    'SkippedImagesHook',
    'SpikeResetHook',
    'StrideCheckHook',
]
