"""Registers the models that subclass a host library's.

Apart from :mod:`mmspike.models`, so that importing a backbone imports no host. What needs a missing host is a placeholder that
raises and names the package.
"""

import ast
from importlib import import_module
from pathlib import Path

from mmspike.registry import MODELS
from mmspike.utils.optional import is_installed, register_placeholder

#: task package -> its host library
TASKS = dict(detection='mmdet', segmentation='mmseg', classification='mmpretrain', pretraining='mmpretrain')


def names_of(task: str) -> list[str]:
    """The ``__all__`` of a task's package, which is not imported."""
    tree = ast.parse(Path(__file__).with_name(task).joinpath('__init__.py').read_text())
    (names,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == '__all__')
    return ast.literal_eval(names)


for _task, _host in TASKS.items():
    if is_installed(_host):
        import_module(f'mmspike.models.{_task}')
    else:
        for _name in names_of(_task):
            register_placeholder(MODELS, _name, _host)
