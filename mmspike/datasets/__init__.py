"""Data sets, transforms, pictures. What needs a missing host library is a placeholder that raises and names the package.

``__all__`` is written by hand: it has what works without a host. tests/utils/test_registered.py holds it against the files.
"""

from importlib import import_module

from mmspike.registry import DATASETS, HOOKS, TRANSFORMS
from mmspike.utils.optional import is_installed, register_placeholder
from mmspike.utils.registered import registered

from .events import DropHotPixels, EventsToFrames, LoadEventFrames, LoadEvents, RandomEventAffine, RandomEventDrop
from .loading import LoadImageFromFile

#: modules that need mmpretrain
FOR_MMPRETRAIN = ('class_folders', 'events.datasets', 'events.packing', 'events.visualization')
_REGISTRIES = dict(DATASETS=DATASETS, HOOKS=HOOKS, TRANSFORMS=TRANSFORMS)

for _module in FOR_MMPRETRAIN:
    if is_installed('mmpretrain'):
        import_module(f'mmspike.datasets.{_module}')
    else:
        for _found in registered(f'mmspike.datasets.{_module}'):
            register_placeholder(_REGISTRIES[_found.registry], _found.name, 'mmpretrain')

__all__ = [
    'DropHotPixels',
    'EventsToFrames',
    'LoadEventFrames',
    'LoadEvents',
    'LoadImageFromFile',
    'RandomEventAffine',
    'RandomEventDrop',
]
