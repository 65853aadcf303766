"""Spikes as counts of one byte, in place of numbers, for the CPU."""

import ctypes
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .layout import channels_last, fold, in_layout_of, in_one_piece, unfold
from .library import call, pointers, reals
from .recompute import Recompute, Signal


def pack(s: Tensor, divisor: float) -> Tensor | None:
    """Spikes count / divisor as counts (uint8), channels innermost; None if there is a NaN, which a byte cannot hold."""
    s = channels_last(s)
    counts = torch.empty_like(s, dtype=torch.uint8)
    nan = call('pack', s.dtype, *pointers(s, counts), ctypes.c_int64(s.numel()), *reals(s.dtype, divisor))
    return None if nan else counts


def unpack(counts: Tensor, divisor: float, dtype: torch.dtype, shift: int = 0) -> Tensor:
    """The spikes again, of counts that stand ``shift`` bits to the left."""
    s = torch.empty_like(counts, dtype=dtype)
    call('unpack', dtype, *pointers(counts, s), ctypes.c_int64(s.numel()), *reals(dtype, divisor), ctypes.c_int(shift))
    return s


def kept_spikes(x: Tensor, divisor: float | None) -> Recompute:
    """The recomputation of spikes [T, B, ...]: kept as counts of one byte where that is possible, else as they are."""
    counts = None if divisor is None else pack(fold(x), divisor)
    return kept_counts(None if counts is None else unfold(counts, x.shape[0]), x, divisor)


def kept_counts(counts: Tensor | None, x: Tensor, divisor: float | None, shift: int = 0) -> Recompute:
    """The recomputation of spikes ``x`` of their counts; without any of themselves."""
    if counts is None or divisor is None:
        return Signal(x).back()
    return Recompute(partial(unpack, divisor=divisor, dtype=x.dtype, shift=shift), (counts,))


class _Count(torch.autograd.Function):
    """SFA. Saves a byte an element: its count, and in the lowest bit whether the gradient passes."""

    @staticmethod
    def forward(ctx, x, levels, divisor):
        x = in_one_piece(x)
        out, codes = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
        nan = call('sfa_codes', x.dtype, *pointers(x, out, codes), ctypes.c_int64(x.numel()), *reals(x.dtype, levels, divisor))
        ctx.save_for_backward(codes)
        ctx.divisor, ctx.nan = divisor, bool(nan)
        ctx.mark_non_differentiable(codes)
        return out, codes

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        (codes,) = ctx.saved_tensors
        return sfa_gradient(grad, codes, ctx.divisor), None, None


def sfa_gradient(grad: Tensor, window: Tensor, divisor: float) -> Tensor:
    """Gradient of SFA's input: that of its output over ``divisor`` where the lowest bit of ``window`` is set."""
    grad_x = torch.empty_like(window, dtype=grad.dtype)
    grad = in_layout_of(grad_x, grad)
    call('sfa_backward', grad.dtype, *pointers(grad, window, grad_x), ctypes.c_int64(grad.numel()), *reals(grad.dtype, divisor))
    return grad_x


def count(x: Tensor, levels: int, divisor: float) -> Signal:
    """``mmspike.models.neurons.sfa(x, levels, divisor)`` for levels below 128, halves rounded to even."""
    out, codes = _Count.apply(x, levels, divisor)
    nan = out.grad_fn is not None and out.grad_fn.nan
    return Signal(out, float(divisor), None, kept_counts(None if nan else codes, out, divisor, 1))
