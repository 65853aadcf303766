"""Hooks of our runs."""

from .finite_loss_hook import FiniteLossHook
from .firing_rate_hook import FiringRateHook
from .iteration_seed_hook import IterationSeedHook
from .obey_config_hook import ObeyConfigHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .skipped_images_hook import SkippedImagesHook
from .spike_reset_hook import SpikeResetHook
from .stride_check_hook import StrideCheckHook, check_strides

__all__ = [
    'FiniteLossHook',
    'FiringRateHook',
    'IterationSeedHook',
    'ObeyConfigHook',
    'SafeCheckpointHook',
    'SkippedImagesHook',
    'SpikeResetHook',
    'StrideCheckHook',
    'check_strides',
]
