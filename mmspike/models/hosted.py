"""Registers the models that subclass a host library's.

Apart from :mod:`mmspike.models`, so that importing a backbone imports no host. What needs a missing host is a placeholder that
raises and names the package.
"""

from importlib import import_module

from mmspike.registry import MODELS
from mmspike.utils.optional import is_installed, register_placeholder
from mmspike.utils.registered import registered

#: task package -> its host library
TASKS = dict(detection='mmdet', segmentation='mmseg', classification='mmpretrain', pretraining='mmpretrain')

for _task, _host in TASKS.items():
    if is_installed(_host):
        import_module(f'mmspike.models.{_task}')
    else:
        for _found in registered(f'mmspike.models.{_task}'):
            if _found.registry == 'MODELS':  # and not one of the host's
                register_placeholder(MODELS, _found.name, _host)
