"""Spiking neural networks for dense prediction, as a plugin for OpenMMLab.

Importing this package registers nothing yet: :mod:`mmspike.registry` does, and mmengine imports that by itself as soon as
a config names a type with the prefix ``mmspike.``.
"""

from .version import __version__

__all__ = ['__version__']
