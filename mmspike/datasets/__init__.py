"""Data sets, transforms, pictures. What needs a missing host library is a placeholder that raises and names the package."""

from importlib import import_module

from mmspike.registry import DATASETS, HOOKS, TRANSFORMS
from mmspike.utils.optional import is_installed, register_placeholder

from .events import DropHotPixels, EventsToFrames, LoadEventFrames, LoadEvents, RandomEventAffine, RandomEventDrop
from .loading import LoadImageFromFile

# registry -> module of mmspike.datasets.events that needs mmpretrain, what it registers
FOR_MMPRETRAIN = {
    TRANSFORMS: ('packing', ('PackEvents',)),
    HOOKS: ('visualization', ('EventVisualizationHook',)),
    DATASETS: ('datasets', ('CIFAR10DVS', 'DVS128Gesture', 'EventFolders', 'HARDVS', 'NCaltech101', 'NMNIST')),
}

for _registry, (_module, _names) in FOR_MMPRETRAIN.items():
    if is_installed('mmpretrain'):
        import_module(f'mmspike.datasets.events.{_module}')
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
