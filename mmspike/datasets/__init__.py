"""Data sets, transforms, pictures. What needs a missing host library is a placeholder that raises and names the package.

``__all__`` is written by hand: it has what works without a host. tests/utils/test_registered.py holds it against the files.
"""

from importlib import import_module

from mmspike.registry import DATA_SAMPLERS, DATASETS, HOOKS, TRANSFORMS
from mmspike.utils.optional import is_installed, register_placeholder
from mmspike.utils.registered import registered

from . import events
from .events import *  # noqa: F403
from .loading import LoadImageFromFile

#: modules that need a host -> the host
FOR_HOSTS = {
    'class_folders': 'mmpretrain',
    'events.datasets': 'mmpretrain',
    'events.packing': 'mmpretrain',
    'events.visualization': 'mmpretrain',
    'events.detection': 'mmdet',
    'events.packing_detection': 'mmdet',
    'events.segmentation': 'mmseg',
    'events.segmentation_transforms': 'mmseg',
}
_REGISTRIES = dict(DATASETS=DATASETS, HOOKS=HOOKS, TRANSFORMS=TRANSFORMS)

for _module, _host in FOR_HOSTS.items():
    if is_installed(_host):
        import_module(f'mmspike.datasets.{_module}')
    else:
        for _found in registered(f'mmspike.datasets.{_module}'):
            register_placeholder(_REGISTRIES[_found.registry], _found.name, _host)

__all__ = ['LoadImageFromFile']
__all__ += [_name for _name in events.__all__ if _name in TRANSFORMS.module_dict or _name in DATA_SAMPLERS.module_dict]
