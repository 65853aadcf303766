"""Spiking neural networks for dense prediction, as a plugin for OpenMMLab.

Importing this package lets an mmcv without compiled operators find those of :mod:`mmspike.ops`, and registers nothing yet:
:mod:`mmspike.registry` does, and checks the versions of what is installed. mmengine imports it by itself as soon as a config
names a type with the prefix ``mmspike.``.
"""

from typing import Any

from .ops import install_operators
from .version import __version__

# before any host is imported: an mmcv without compiled operators gets those of mmspike.ops, a compiled one keeps its own
install_operators()

__all__ = ['__version__', 'get_arch', 'list_archs']


def __getattr__(name: str) -> Any:
    """``list_archs`` and ``get_arch``, which import the backbones when they are asked for."""
    if name in ('get_arch', 'list_archs'):
        from .models import archs

        return getattr(archs, name)
    where = '. Backbones, necks, heads and neurons are in mmspike.models' if name[:1].isupper() else ''
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}{where}')
