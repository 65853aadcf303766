"""Spiking neural networks for dense prediction, as a plugin for OpenMMLab.

Importing this package lets an mmcv without compiled operators find those of :mod:`mmspike.ops`, and registers nothing yet:
:mod:`mmspike.registry` does, and checks the versions of what is installed. mmengine imports it by itself as soon as a config
names a type with the prefix ``mmspike.``.
"""

import os

from .ops import install_operators
from .version import __version__

# before any host is imported: an mmcv without compiled operators gets those of mmspike.ops, a compiled one keeps its own
install_operators()

# Tensors of 2 MB and more on huge pages of their own: the heap fragments less, and the peak of a training step on the CPU is a
# tenth lower. PyTorch reads it once, when it first allocates; where a process has done so before, nothing changes.
os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')

__all__ = ['__version__']
