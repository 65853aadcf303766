"""Kernels of neurons and layers: the same functions as in plain PyTorch, fused over time steps and over neighbours.

``MMSPIKE_KERNELS=0`` in the environment, or :func:`use`, leaves everything to PyTorch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_on = os.environ.get('MMSPIKE_KERNELS', '1') != '0'


def enabled() -> bool:
    """True unless ``MMSPIKE_KERNELS=0`` is set or ``use(False)`` is active."""
    return _on


@contextmanager
def use(on: bool) -> Iterator[None]:
    """Turn the kernels of this process on or off, for what is called within.

    Example:
        >>> import torch
        >>> from mmspike import kernels
        >>> from mmspike.models.neurons import LIF
        >>> x = torch.randn(4, 2, 8)
        >>> with kernels.use(False):
        ...     plain = LIF()(x)
        >>> torch.equal(plain, LIF()(x))
        True
    """
    global _on
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before
