"""Neurons over all time steps as one Triton kernel each way, for CUDA.

The kernels give PyTorch's results bit by bit where they round alike: divisions are rounded to nearest, multiplications and
additions are not contracted. A NaN membrane gives a NaN output. Triton comes with PyTorch's CUDA builds; without it, and on a
card for which it cannot compile, the neurons run as plain PyTorch.
"""

from .integer import integer_lif_backward, integer_lif_forward, sfa_backward, sfa_forward
from .launch import fuses, usable
from .lif import lif_backward, lif_forward

__all__ = [
    'fuses',
    'integer_lif_backward',
    'integer_lif_forward',
    'lif_backward',
    'lif_forward',
    'sfa_backward',
    'sfa_forward',
    'usable',
]
