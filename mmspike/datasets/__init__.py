"""Data sets, transforms, pictures. What needs a missing host library is a placeholder that raises and names the package."""

from importlib import import_module

from mmspike.registry import DATASETS, HOOKS, TRANSFORMS
from mmspike.utils.optional import is_installed, register_placeholder

from .events import DropHotPixels, EventsToFrames, LoadEventFrames, LoadEvents, RandomEventAffine, RandomEventDrop
from .loading import LoadImageFromFile

# modules that need mmpretrain, with what they register
FOR_MMPRETRAIN = (
    ('class_folders', DATASETS, ('ClassFolders',)),
    ('events.datasets', DATASETS, ('CIFAR10DVS', 'DVS128Gesture', 'EventFolders', 'HARDVS', 'NCaltech101', 'NMNIST')),
    ('events.packing', TRANSFORMS, ('PackEvents',)),
    ('events.visualization', HOOKS, ('EventVisualizationHook',)),
)

for _module, _registry, _names in FOR_MMPRETRAIN:
    if is_installed('mmpretrain'):
        import_module(f'mmspike.datasets.{_module}')
    else:
        for _name in _names:
            register_placeholder(_registry, _name, 'mmpretrain')

__all__ = [
    'DropHotPixels',
    'EventsToFrames',
    'LoadEventFrames',
    'LoadEvents',
    'LoadImageFromFile',
    'RandomEventAffine',
    'RandomEventDrop',
]
