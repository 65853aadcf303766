"""Gradients of 3x3 convolutions of stride 1 with a quarter of the products, on the CPU: see winograd.c."""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from .library import SUFFIX, available, call, check, pointers

#: tiles of 4 x 4 pixels below which transforming the weight takes longer than what is gained
TILES = 32
#: of ones among spikes, below which adding up gradients where there is one is quicker
SHARE = 0.1


class _Images(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int64) for name in ('B', 'H', 'W', 'C', 'N', 'groups')), ('padding', ctypes.c_int64 * 2)]


@functools.cache
def _pays() -> bool:
    return available() and bool(call('winograd_pays', torch.float32))


def fits(
    grad: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """The functions here know a convolution of these arguments, and are quicker than PyTorch on ``grad`` [B, N, H, W]."""
    N, C, *kernel = weight.shape
    B, _, H, W = grad.shape
    return (
        tuple(kernel) == (3, 3)
        and tuple(stride) == tuple(dilation) == (1, 1)
        and max(padding) <= 2
        and min(C, N // groups) >= 16
        and B * -(-H // 4) * -(-W // 4) >= TILES
        and grad.dtype in SUFFIX
        and _pays()
    )


def _images(x: Tensor, C: int, N: int, groups: int, padding: Sequence[int]) -> _Images:
    return _Images(x.shape[0], *x.shape[2:], C, N, groups, (ctypes.c_int64 * 2)(*padding))


def input_gradient(grad: Tensor, weight: Tensor, padding: Sequence[int], groups: int) -> Tensor:
    """Gradient of the input; ``grad`` [B, N, H, W] has channels innermost in memory."""
    N, C = weight.shape[:2]
    sizes = _images(grad, N // groups, C, groups, [2 - p for p in padding])
    dtype, (H, W) = grad.dtype, (n + 2 - 2 * p for n, p in zip(grad.shape[2:], padding, strict=True))
    # whatever torch's default dtype and device are
    transformed = torch.empty(call('winograd_size', dtype, ctypes.byref(sizes)), dtype=dtype, device='cpu')
    weight = weight.contiguous()
    call('winograd_weight', dtype, *pointers(weight, transformed), ctypes.byref(sizes))
    out = torch.empty(grad.shape[0], C * groups, H, W, dtype=dtype, device='cpu', memory_format=torch.channels_last)
    check(call('winograd_conv', dtype, *pointers(grad, transformed, out), ctypes.byref(sizes)))
    return out


def weight_gradient(x: Tensor, grad: Tensor, padding: Sequence[int], groups: int) -> Tensor:
    """Gradient [N, C / groups, 3, 3] of the weight from the input ``x`` [B, C, H, W]; both have channels innermost."""
    N, C = grad.shape[1], x.shape[1] // groups
    sizes = _images(x, C, N // groups, groups, padding)
    out = torch.empty(N, C, 3, 3, dtype=x.dtype, device='cpu')
    check(call('winograd_weight_gradient', x.dtype, *pointers(x, grad, out), ctypes.byref(sizes)))
    return out
