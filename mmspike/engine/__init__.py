"""What our runs add to mmengine's Runner: hooks, what optimizers need, and what the tools share."""

from .hooks import (
    FiniteLossHook,
    FiringRateHook,
    IterationSeedHook,
    SafeCheckpointHook,
    SkippedImagesHook,
    SpikeResetHook,
    StrideCheckHook,
)
from .optim import CPUAmpOptimWrapper, OptimWrapperConstructor

__all__ = [
    'CPUAmpOptimWrapper',
    'FiniteLossHook',
    'FiringRateHook',
    'IterationSeedHook',
    'OptimWrapperConstructor',
    'SafeCheckpointHook',
    'SkippedImagesHook',
    'SpikeResetHook',
    'StrideCheckHook',
]
