"""Convolutions, transposed convolutions and linear layers whose input, spikes, is not saved as floats; on the CPU."""

import ctypes
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import amx
from .layout import channels_last, fold, unfold
from .library import call, pointers, reals
from .recompute import Recompute, Signal


def pack(s: Tensor, divisor: float) -> Tensor | None:
    """Spikes count / divisor as counts (uint8), channels innermost; None if there is a NaN, which a byte cannot hold."""
    s = channels_last(s)
    counts = torch.empty_like(s, dtype=torch.uint8)
    nan = call('pack', s.dtype, *pointers(s, counts), ctypes.c_int64(s.numel()), *reals(s.dtype, divisor))
    return None if nan else counts


def unpack(counts: Tensor, divisor: float, dtype: torch.dtype) -> Tensor:
    """The spikes again."""
    s = torch.empty_like(counts, dtype=dtype)
    call('unpack', dtype, *pointers(counts, s), ctypes.c_int64(s.numel()), *reals(dtype, divisor))
    return s


def depthwise_fits(weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int) -> bool:
    """:func:`depthwise_weight_gradient` covers a convolution of these arguments."""
    k = weight.shape[-1]
    return (
        groups == weight.shape[0] >= 16
        and weight.shape[1] == 1
        and weight.shape[-2] == k
        and k in (3, 5, 7)
        and tuple(stride) == tuple(dilation) == (1, 1)
        and tuple(padding) == (k // 2, k // 2)
    )


def depthwise_weight_gradient(x: Tensor, grad: Tensor, k: int) -> Tensor:
    """Gradient of the weight [C, 1, k, k] of a depthwise convolution of x [B, C, H, W] with 'same' padding."""
    B, C, H, W = x.shape
    x, grad = (a.permute(0, 2, 3, 1).contiguous() for a in (x, grad))
    strips = call('depthwise_strips', x.dtype, ctypes.c_int64(H))
    partial = x.new_empty(B * strips, k, k, C)
    sizes = [ctypes.c_int64(n) for n in (B, H, W, C)]
    call('depthwise_weight', x.dtype, *pointers(x, grad, partial), *sizes, ctypes.c_int(k))
    return partial.sum(0).permute(2, 0, 1).unsqueeze(1).contiguous()


class _Layer:
    """The arguments of a linear layer or a convolution, which are not tensors, and both passes of it."""

    def __init__(self, layer: nn.Module, padding: tuple[int, int] | None = None) -> None:
        self.linear = isinstance(layer, nn.Linear)
        self.transposed = isinstance(layer, nn.ConvTranspose2d)
        if self.linear:
            return
        self.stride, self.dilation, self.groups = layer.stride, layer.dilation, layer.groups
        self.padding = layer.padding if padding is None else padding
        self.output_padding = layer.output_padding

    def forward(self, s: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.linear:
            return F.linear(s, weight, bias)
        if self.transposed:
            return F.conv_transpose2d(
                s, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        return F.conv2d(s, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, grad: Tensor, s: Tensor, weight: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, ...]:
        need_input, need_weight, need_bias = needs
        if self.linear:
            flat = grad.flatten(0, -2)
            grad_input = grad @ weight if need_input else None
            return grad_input, flat.t() @ s.flatten(0, -2) if need_weight else None, flat.sum(0) if need_bias else None
        args = self.stride, self.padding, self.dilation
        own = need_weight and not self.transposed and depthwise_fits(weight, *args, self.groups)
        mask = [need_input, need_weight and not own, need_bias]
        sizes = [grad.shape[1]] if need_bias else None
        grad_input, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad, s, weight, sizes, *args, self.transposed, self.output_padding, self.groups, mask
        )
        if own:
            grad_weight = depthwise_weight_gradient(s, grad, weight.shape[-1])
        return grad_input, grad_weight, grad_bias


class _SpikeConv(torch.autograd.Function):
    """Saves what its input is computed from anew, and on the matrix units counts of one byte."""

    @staticmethod
    def forward(ctx, s, weight, bias, layer, divisor, counts, anew):
        ctx.matrix_units = counts is not None
        out = amx.conv(counts, divisor, weight, bias) if ctx.matrix_units else layer.forward(s, weight, bias)
        kept: tuple[Tensor | None, ...] = ()
        if ctx.needs_input_grad[1]:
            kept = (counts,) if ctx.matrix_units else anew.tensors
        ctx.save_for_backward(weight, *kept)
        ctx.layer, ctx.divisor, ctx.shape, ctx.compute = layer, divisor, s.shape, anew.compute
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        weight, *kept = ctx.saved_tensors
        need_input, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad = channels_last(grad)
        if ctx.matrix_units:
            grad_input = amx.conv_input_gradient(grad, weight) if need_input else None
            grad_weight = amx.conv_weight_gradient(kept[0], ctx.divisor, grad, weight.shape[-1]) if need_weight else None
            return grad_input, grad_weight, grad.sum((0, 2, 3)) if need_bias else None, *[None] * 4
        if need_weight:
            s = channels_last(fold(ctx.compute(*kept))) if grad.dim() == 4 else fold(ctx.compute(*kept))
        else:
            s = grad.new_empty(()).expand(ctx.shape)  # of this the gradient of the input takes the shape only
        return *ctx.layer.backward(grad, s, weight, (need_input, need_weight, need_bias)), *[None] * 4


def takes_counts(conv: nn.Module, x: Tensor) -> bool:
    """``conv`` on ``x`` [T, B, C, H, W] would read counts of one byte."""
    return type(conv) is nn.Conv2d and amx.fits(x, conv.weight, conv.stride, conv.padding, conv.dilation, conv.groups)


def spike_conv(
    layer: nn.Module,
    signal: Signal,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    padding: tuple[int, int] | None = None,
) -> Signal:
    """A convolution or linear layer on [T, B, ...].

    Args:
        weight, bias, padding: In place of the layer's own.
    """
    weight = layer.weight if weight is None else weight
    bias = layer.bias if bias is None else bias
    x, divisor, counts, anew = signal
    arguments = _Layer(layer, padding)
    if not arguments.linear and layer.kernel_size == (1, 1) and layer.stride != (1, 1) and arguments.padding == (0, 0):
        if not arguments.transposed:
            # it reads every second pixel alone. PyTorch (2.11 to 2.14) crashes in its backward pass on some CPUs
            down = layer.stride
            x, counts, anew = x[..., :: down[0], :: down[1]], None, None
            arguments.stride = (1, 1)
    s, after, fixed = fold(x), None, (weight.detach(), None if bias is None else bias.detach())
    if divisor is not None and takes_counts(layer, x):
        counts = pack(s, divisor) if counts is None else fold(counts)
        products = weight[0].numel()  # for an element of the output
        if counts is not None and products < 1000 and layer.out_channels >= layer.in_channels:
            after = Recompute(partial(_conv_anew, divisor, x.shape[0]), (counts, *fixed))
    else:
        counts = None
    if anew is None:
        anew = kept_spikes(x, divisor) if weight.requires_grad and torch.is_grad_enabled() else Signal(x).back()
    out = _SpikeConv.apply(s, weight, bias, arguments, divisor, counts, anew)
    if after is None and not arguments.linear and arguments.groups == layer.in_channels > 1 and layer.kernel_size <= (3, 3):
        after = Recompute(partial(_depthwise_anew, arguments, anew.compute), (*fixed, *anew.tensors))
    return Signal(unfold(out, x.shape[0]), anew=after)


def kept_spikes(x: Tensor, divisor: float | None) -> Recompute:
    """The recomputation of spikes [T, B, ...]: kept as counts of one byte where that is possible, else as they are."""
    counts = None if divisor is None else pack(fold(x), divisor)
    if divisor is None or counts is None:
        return Signal(x).back()
    return Recompute(partial(_unpacked, divisor, x.dtype, x.shape[0]), (counts,))


def _unpacked(divisor: float, dtype: torch.dtype, T: int, counts: Tensor) -> Tensor:
    return unfold(unpack(counts, divisor, dtype), T)


def _depthwise_anew(layer: _Layer, compute, weight: Tensor, bias: Tensor | None, *tensors: Tensor | None) -> Tensor:
    x = compute(*tensors)
    return unfold(layer.forward(fold(x), weight, bias), x.shape[0])


def _conv_anew(divisor: float, T: int, counts: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return unfold(amx.conv(counts, divisor, weight, bias), T)
