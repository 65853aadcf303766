"""The module ``mmcv._ext`` that Python finds where mmcv was built without one."""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mmspike.utils.errors import UserError

from .late import replace_placeholders

NAME = 'mmcv._ext'


class OperatorNotProvided(UserError):
    """An operator of mmcv was called that mmspike does not provide."""


class _Operators(ModuleType):
    """``mmcv._ext``: operators of the table, and for every other name a function that raises when it is called.

    ``mmcv.ops`` asks for all its operators when it is imported, also for those that nobody calls.
    """

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(f'module {NAME!r} has no attribute {name!r}')

        def not_provided(*args, **kwargs) -> Any:
            raise OperatorNotProvided(
                f'{name}: the installed mmcv has no compiled operators, and mmspike.ops does not provide this one. '
                "Compile mmcv (docs/install.md, mmcv's operators), or use a model without it."
            )

        not_provided.__name__ = name
        setattr(self, name, not_provided)
        return not_provided


class _OperatorsLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Operators(NAME, 'Operators of mmcv on torchvision and PyTorch, provided by mmspike.')

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(importlib.import_module('.table', __package__).OPERATORS)


class _OperatorsFinder(MetaPathFinder):
    """The last that Python asks: a compiled extension in mmcv's folder is found before."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(NAME, _OperatorsLoader(), origin='mmspike.ops') if fullname == NAME else None


def install_operators() -> None:
    """Let ``import mmcv._ext`` find mmspike's operators where mmcv has no compiled ones.

    Neither mmcv nor torch is imported, and nothing changes where mmcv has a compiled extension. A second call does nothing.
    Hosts that are imported already get the operators that they looked for, see :mod:`mmspike.ops.late`.

    Example::

        import mmspike  # calls install_operators()
        from mmcv.ops import nms, RoIAlign

    Example:
        >>> import torch
        >>> import mmspike
        >>> from mmcv.ops import nms
        >>> boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0], [20.0, 20.0, 29.0, 29.0]])
        >>> nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)[1]
        tensor([0, 2])
    """
    if not any(isinstance(finder, _OperatorsFinder) for finder in sys.meta_path):
        sys.meta_path.append(_OperatorsFinder())
        if 'mmcv' in sys.modules:
            replace_placeholders()
