"""Convolutions of spike counts on the matrix units of newer Intel CPUs (AMX), in bfloat16, accurate to float32: see amx.c."""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from .library import available as compiled
from .library import check, library, pointers

WEIGHT_TERMS = 3  # bfloat16 that a weight is split into: 24 bits, as in float32
GRADIENT_TERMS = 2  # 16 bits, an error of 5e-6 of the largest gradient


@functools.cache
def available() -> bool:
    """The CPU and the compiler have what it takes, and the operating system allows it."""
    return compiled() and bool(library().amx_start())


def fits(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """The functions here compute this convolution of x [B, C, H, W], and do so faster than PyTorch."""
    if not available():
        return False
    N, C, height, width = weight.shape
    return (
        x.dtype == torch.float32
        and height == width
        and height in (1, 3)
        and tuple(stride) == tuple(dilation) == (1, 1)
        and tuple(padding) == (height // 2, height // 2)
        and groups == 1
        and min(N, C) >= 16
        and x.numel() > 0
    )


def _sizes(*sizes: int) -> list[ctypes.c_int64]:
    return [ctypes.c_int64(n) for n in sizes]


def _tiles(weight: Tensor, terms: int, transposed: bool) -> Tensor:
    """The weight [N, C, k, k], or that of the gradient of the input, in the order the kernel reads."""
    N, C, k, _ = weight.shape
    weight = weight.contiguous()
    first, strides = weight.data_ptr(), (k * k, C * k * k, k, 1)
    if transposed:
        first, strides = first + 4 * (k * k - 1), (C * k * k, k * k, -k, -1)
        N, C = C, N
    size = library().amx_weight_size(*_sizes(C, N, k), ctypes.c_int(terms))
    tiles = torch.empty(size, dtype=torch.bfloat16, device='cpu')
    library().amx_weight(ctypes.c_void_p(first), *pointers(tiles), *_sizes(C, N, k, *strides), ctypes.c_int(terms))
    return tiles


def _image_sizes(x: Tensor, k: int) -> tuple[int, int, int]:
    """B, H, W of x [B, C, H, W]; pixels in one column do for a kernel of 1."""
    B, _, H, W = x.shape
    return (1, B * H * W, 1) if k == 1 else (B, H, W)


def _conv(x: Tensor, x_terms: int, weight: Tensor, terms: int, bias: Tensor | None, scale: float, transposed: bool) -> Tensor:
    N, C, k, _ = weight.shape
    N, C = (C, N) if transposed else (N, C)
    # whatever torch's default dtype and device are
    out = torch.empty(x.shape[0], N, *x.shape[2:], memory_format=torch.channels_last, dtype=torch.float32, device='cpu')
    tiles = _tiles(weight, terms, transposed)
    counts = ctypes.c_int(x.dtype == torch.uint8)
    failed = library().amx_conv(
        *pointers(x), counts, ctypes.c_int(x_terms), *pointers(tiles), ctypes.c_int(terms),
        *pointers(bias), ctypes.c_float(scale), *pointers(out), *_sizes(*_image_sizes(x, k), C, N, k),
    )  # fmt: skip
    check(failed)
    return out


def conv(counts: Tensor, divisor: float, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution of the spikes ``counts / divisor``; counts [B, C, H, W] are uint8 with channels innermost in memory."""
    return _conv(counts, 1, weight, WEIGHT_TERMS, bias, 1 / divisor, transposed=False)


def conv_input_gradient(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of a convolution's input; grad [B, N, H, W] has channels innermost in memory."""
    return _conv(grad, GRADIENT_TERMS, weight, GRADIENT_TERMS, None, 1.0, transposed=True)


def conv_weight_gradient(counts: Tensor, divisor: float, grad: Tensor, k: int) -> Tensor:
    """Gradient [N, C, k, k] of a convolution's weight, from its input ``counts / divisor`` and the gradient of its output."""
    C, N = counts.shape[1], grad.shape[1]
    out = torch.empty(N, C, k, k, dtype=torch.float32, device='cpu')
    sizes = _sizes(*_image_sizes(grad, k), C, N, k)
    failed = library().amx_conv_weight(
        *pointers(counts, grad), ctypes.c_float(1 / divisor), *pointers(out), *sizes, ctypes.c_int(GRADIENT_TERMS)
    )
    check(failed)
    return out
