"""Pools of spikes, which save nothing but what the spikes are computed from."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .layout import channels_last, fold, unfold
from .recompute import Signal, derived


class _Pool(torch.autograd.Function):
    """A max-pool finds its maxima anew in the backward pass; an average pool needs no values at all."""

    @staticmethod
    def forward(ctx, x, pool, anew):
        ctx.pool, ctx.compute, ctx.shape = pool, anew.compute, x.shape
        ctx.save_for_backward(*(anew.tensors if isinstance(pool, nn.MaxPool2d) else ()))
        return pool(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        p, aten = ctx.pool, torch.ops.aten
        window = [n if isinstance(n, tuple) else (n, n) for n in (p.kernel_size, p.stride, p.padding)]
        grad = channels_last(grad)
        if isinstance(p, nn.MaxPool2d):
            x = channels_last(fold(ctx.compute(*ctx.saved_tensors)))
            args = *window, p.dilation if isinstance(p.dilation, tuple) else (p.dilation, p.dilation), p.ceil_mode
            maxima = aten.max_pool2d_with_indices(x, *args)[1]
            return aten.max_pool2d_with_indices_backward(grad, x, *args, maxima), None, None
        x = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)  # for its shape
        return aten.avg_pool2d_backward(grad, x, *window, p.ceil_mode, p.count_include_pad, p.divisor_override), None, None


def spike_pool(pool: nn.MaxPool2d | nn.AvgPool2d, signal: Signal) -> Signal:
    """A pool over space of [T, B, C, H, W]; a maximum of counts is one of them."""
    anew = signal.back()
    out = unfold(_Pool.apply(fold(signal.x), pool, anew), signal.x.shape[0])
    divisor = signal.divisor if isinstance(pool, nn.MaxPool2d) else None
    return Signal(out, divisor, None, derived(partial(_pooled, pool), anew))


def _pooled(pool: nn.Module, x: Tensor) -> Tensor:
    return unfold(pool(fold(x)), x.shape[0])
