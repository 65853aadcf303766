"""Spikes of 0 and 1 as bits, and convolutions that add up the weights of spikes alone: see sparse.c."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .layout import channels_last
from .library import SUFFIX, call, check, pointers

if TYPE_CHECKING:
    from .spike_conv import Layer

SHARE = 0.33  # of ones, above which PyTorch's convolutions are as quick
SHARE_ANEW = 0.15  # of ones, above which it takes too long to compute a convolution anew in the backward pass

PIXELS = 512  # over all images and time steps, below which it takes longer to order the weights than to multiply


class Bits(NamedTuple):
    """Spikes [B, C, H, W] or [B, C] of 0 and 1.

    Attributes:
        words: The bits of a pixel, int64 [B, H, W, C / 64 rounded up] or [B, ...].
        channels: C.
        share: The share of ones.
    """

    words: Tensor
    channels: int
    share: float

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """The spikes as numbers, channels innermost in memory."""
        return unpack(self.words, self.channels, dtype)


def pack(spikes: Tensor, dtype: torch.dtype) -> Bits | None:
    """The bits of spikes [B, C, H, W] or [B, C], numbers of ``dtype`` or bytes; None: some are neither 0 nor 1."""
    spikes = channels_last(spikes)
    C, P = spikes.shape[1], spikes.numel() // spikes.shape[1]
    words = torch.empty(spikes.shape[0], *spikes.shape[2:], -(-C // 64), dtype=torch.int64, device='cpu')
    sources = pointers(None, spikes) if spikes.dtype == torch.uint8 else pointers(spikes, None)
    ones = ctypes.c_int64(0)
    if call('bits_pack', dtype, *sources, *pointers(words), ctypes.c_int64(P), ctypes.c_int64(C), ctypes.byref(ones)):
        return None
    return Bits(words, C, ones.value / spikes.numel())


def unpack(words: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """:meth:`Bits.unpack` of its words."""
    out = torch.empty(*words.shape[:-1], channels, dtype=dtype, device='cpu')
    P = out.numel() // channels
    call('bits_unpack', dtype, *pointers(words, out), ctypes.c_int64(P), ctypes.c_int64(channels))
    return out.permute(0, 3, 1, 2) if out.dim() == 4 else out


class _Conv(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ('B', 'H', 'W', 'C', 'N', 'out_H', 'out_W')),
        *((name, ctypes.c_int64 * 2) for name in ('kernel', 'stride', 'padding', 'dilation')),
    ]


def fits(layer: nn.Module, x: Tensor) -> bool:
    """The functions here know a layer of these arguments, and have something to gain on ``x`` [T, B, C, ...]."""
    if x.dtype not in SUFFIX or x.numel() < PIXELS * x.shape[2]:
        return False
    if isinstance(layer, nn.Linear):
        return layer.out_features >= 16
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.out_channels >= 16


def _shape(words: Tensor, weight_shape: Sequence[int], layer: Layer) -> _Conv:
    N, C, *kernel = weight_shape
    pair = ctypes.c_int64 * 2
    if layer.linear:
        one, none = pair(1, 1), pair(0, 0)
        return _Conv(words.shape[0], 1, 1, C, N, 1, 1, one, one, none, one)
    B, H, W, _ = words.shape
    sizes = zip((H, W), kernel, layer.stride, layer.padding, layer.dilation, strict=True)
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]
    return _Conv(B, H, W, C, N, *out, *(pair(*a) for a in (kernel, layer.stride, layer.padding, layer.dilation)))


def conv(words: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """The convolution or linear layer of bits, [B, N, H', W'] with channels innermost in memory or [B, N]."""
    weight, shape, dtype = weight.contiguous(), _shape(words, weight.shape, layer), weight.dtype
    tiles = torch.empty(call('sparse_size', dtype, ctypes.byref(shape)), dtype=dtype, device='cpu')
    call('sparse_tiles', dtype, *pointers(weight, tiles), ctypes.byref(shape))
    out = torch.empty(shape.B, shape.out_H, shape.out_W, shape.N, dtype=dtype, device='cpu')
    check(call('sparse_forward', dtype, *pointers(words, tiles, bias, out), ctypes.byref(shape)))
    return out.flatten(1) if layer.linear else out.permute(0, 3, 1, 2)


def weight_gradient(words: Tensor, grad: Tensor, weight_shape: Sequence[int], layer: Layer) -> Tensor:
    """Gradient of the weight; ``grad`` [B, N, H', W'] has channels innermost in memory."""
    out = torch.empty(*weight_shape, dtype=grad.dtype, device='cpu')
    shape = _shape(words, weight_shape, layer)
    check(call('sparse_weight', grad.dtype, *pointers(words, grad, out), ctypes.byref(shape)))
    return out
