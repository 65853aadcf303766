from .iteration_seed_hook import IterationSeedHook
from .safe_checkpoint_hook import SafeCheckpointHook, latest_readable_checkpoint
from .skipped_images_hook import SkippedImagesHook
from .spike_reset_hook import SpikeResetHook

__all__ = [
    'IterationSeedHook',
    'SafeCheckpointHook',
    'SkippedImagesHook',
    'SpikeResetHook',
    'latest_readable_checkpoint',
]
