"""What our runs add to mmengine's Runner: hooks, an optimizer wrapper for bfloat16 on the CPU, and what the tools share."""

from .hooks import IterationSeedHook, SafeCheckpointHook, SkippedImagesHook, SpikeResetHook, StrideCheckHook
from .optim import CPUAmpOptimWrapper

__all__ = [
    'CPUAmpOptimWrapper',
    'IterationSeedHook',
    'SafeCheckpointHook',
    'SkippedImagesHook',
    'SpikeResetHook',
    'StrideCheckHook',
]
