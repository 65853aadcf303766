"""Convolutions, transposed convolutions and linear layers whose input, spikes, is not saved as floats; on the CPU."""

import ctypes
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import amx, sparse, winograd
from .counts import kept_spikes, pack, unpack
from .layout import channels_last, fold, unfold
from .library import call, pointers
from .norm_neuron import Neuron
from .recompute import Recompute, Signal, kept_bits

#: pixels, over all images and time steps, below which a 1x1 convolution is quicker as a product of matrices
FEW = 1024
#: pixels of an image, above which it is computed anew in four strips, each of at least FEW
LARGE = 8 * FEW
#: products for an element of the output, up to which a convolution that widens is computed anew in the backward pass; on
#: matrix units
PRODUCTS, PRODUCTS_ON_UNITS = 384, 1000


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


def _pixels(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B*H*W, C], a view of channels-last memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(pixels: Tensor, like: Tensor) -> Tensor:
    """[B*H*W, C] -> [B, C, H, W], a view, the sizes of the images as those of ``like``."""
    return pixels.view(like.shape[0], *like.shape[2:], -1).permute(0, 3, 1, 2)


def _by_onednn(weight: Tensor) -> bool:
    """1x1 convolutions are oneDNN's: with one thread PyTorch (2.14) takes products of matrices, up to half slower."""
    return weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


class Layer:
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
        if self.of_few_pixels(s, weight):
            return _images(F.linear(_pixels(s), weight.flatten(1), bias), s)
        if self.linear:
            return F.linear(s, weight, bias)
        if self.transposed:
            return F.conv_transpose2d(
                s, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
            )
        if self.pointwise(weight) and _by_onednn(weight):
            return torch.mkldnn_convolution(s, weight, bias, (0, 0), (1, 1), (1, 1), 1)
        return F.conv2d(s, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def pointwise(self, weight: Tensor) -> bool:
        """A linear layer over pixels."""
        return (
            not (self.linear or self.transposed)
            and weight.shape[2:] == (1, 1)
            and self.groups == 1
            and (*self.stride, *self.dilation, *self.padding) == (1, 1, 1, 1, 0, 0)
        )

    def of_few_pixels(self, s: Tensor, weight: Tensor) -> bool:
        """As :meth:`pointwise`, on images so small that PyTorch's convolutions would need longer to order the weight."""
        return self.pointwise(weight) and s.numel() < FEW * s.shape[1]

    def takes_fewer_products(self, grad: Tensor, weight: Tensor) -> bool:
        """Its gradients are those of :mod:`mmspike.kernels.winograd`."""
        if self.linear or self.transposed:
            return False
        return winograd.fits(grad, weight, self.stride, self.padding, self.dilation, self.groups)

    def backward(self, grad: Tensor, s: Tensor, weight: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, ...]:
        need_input, need_weight, need_bias = needs
        if self.linear:
            flat = grad.flatten(0, -2)
            grad_input = grad @ weight if need_input else None
            return grad_input, flat.t() @ s.flatten(0, -2) if need_weight else None, flat.sum(0) if need_bias else None
        grad_input = grad_weight = None
        if self.of_few_pixels(grad, weight):
            flat = _pixels(grad)
            grad_input = _images(flat @ weight.flatten(1), grad) if need_input else None
            grad_weight = (flat.t() @ _pixels(s)).view_as(weight) if need_weight else None
            return grad_input, grad_weight, flat.sum(0) if need_bias else None
        args = self.stride, self.padding, self.dilation
        own = need_weight and not self.transposed and depthwise_fits(weight, *args, self.groups)
        fewer = self.takes_fewer_products(grad, weight)
        # its input gradient takes PyTorch longer than oneDNN a convolution with the weight transposed
        turned = need_input and self.pointwise(weight) and _by_onednn(weight)
        mask = [need_input and not (turned or fewer), need_weight and not (own or fewer), False]
        if any(mask):
            grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
                grad, s, weight, None, *args, self.transposed, self.output_padding, self.groups, mask
            )
        if turned:
            grad_input = torch.mkldnn_convolution(grad, weight.transpose(0, 1), None, (0, 0), (1, 1), (1, 1), 1)
        if own:
            grad_weight = depthwise_weight_gradient(s, grad, weight.shape[-1])
        if fewer:
            grad_input = winograd.input_gradient(grad, weight, self.padding, self.groups) if need_input else None
            grad_weight = winograd.weight_gradient(s, grad, self.padding, self.groups) if need_weight else None
        return grad_input, grad_weight, grad.sum((0, 2, 3)) if need_bias else None


class _SpikeConv(torch.autograd.Function):
    """Saves its input as bits, on the matrix units as counts of one byte, else what it is computed from anew.

    ``value``: The input, where ``s`` only stands for it in the graph.
    """

    @staticmethod
    def forward(ctx, s, weight, bias, layer, divisor, value, counts, bits, anew):
        ctx.matrix_units = counts is not None
        ctx.few = bits is not None and bits.share <= sparse.SHARE
        ctx.share = 1.0 if bits is None else bits.share
        if ctx.matrix_units:
            out = amx.conv(counts, divisor, weight, bias)
        elif ctx.few:
            out = sparse.conv(bits.words, weight, bias, layer)
        else:
            out = layer.forward(s if value is None else value, weight, bias)
        kept: tuple[Tensor | None, ...] = ()
        if ctx.needs_input_grad[1]:
            kept = (counts,) if ctx.matrix_units else (bits.words,) if ctx.few else anew.tensors
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
            return grad_input, grad_weight, grad.sum((0, 2, 3)) if need_bias else None, *[None] * 6
        by_ones = need_weight and ctx.few
        if by_ones and ctx.share > winograd.SHARE:
            by_ones = not ctx.layer.takes_fewer_products(grad, weight)
        grad_weight = None
        if by_ones:
            grad_weight = sparse.weight_gradient(kept[0], grad, weight.shape, ctx.layer)
        elif need_weight:  # first, so that spikes and their gradient are not there at once
            s = fold(ctx.compute(*kept))
            s = channels_last(s) if grad.dim() == 4 else s
            grad_weight = ctx.layer.backward(grad, s, weight, (False, True, False))[1]
            del s
        # of the input its gradient takes the shape and the order in memory only
        order = torch.channels_last if grad.dim() == 4 else torch.contiguous_format
        like = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=order)
        grads = ctx.layer.backward(grad, like, weight, (need_input, False, need_bias))
        return grads[0], grad_weight, grads[2], *[None] * 6


def on_matrix_units(conv: nn.Module, x: Tensor) -> bool:
    """``conv`` on ``x`` [T, B, C, H, W] runs on the CPU's matrix units."""
    return type(conv) is nn.Conv2d and amx.fits(x, conv.weight, conv.stride, conv.padding, conv.dilation, conv.groups)


def takes_counts(conv: nn.Module, x: Tensor, neuron: Neuron) -> bool:
    """``conv`` on ``x`` [T, B, C, H, W], spikes of ``neuron``, would read counts of one byte."""
    if type(conv) is not nn.Conv2d:
        return False
    return neuron.levels < 256 and on_matrix_units(conv, x) or neuron.binary and sparse.fits(conv, x)


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
    x, divisor, counts, anew, bits = signal
    arguments = Layer(layer, padding)
    if not arguments.linear and layer.kernel_size == (1, 1) and layer.stride != (1, 1) and arguments.padding == (0, 0):
        if not arguments.transposed:
            # it reads every second pixel alone. PyTorch (2.11 to 2.14) crashes in its backward pass on some CPUs
            down = (..., slice(None, None, layer.stride[0]), slice(None, None, layer.stride[1]))
            x, counts, anew, bits = x[down], None if counts is None else counts[down], None, None
            arguments.stride = (1, 1)
    s, T, value, after, saving = fold(x), x.shape[0], None, None, torch.is_grad_enabled()
    fixed = (weight.detach(), None if bias is None else bias.detach()) if saving else ()
    counts = None if counts is None else fold(counts)
    widens = not (arguments.linear or arguments.transposed) and layer.out_channels >= layer.in_channels
    products = weight[0].numel()
    if divisor is not None and on_matrix_units(layer, x):
        counts = pack(s, divisor) if counts is None else counts
        bits = None
        if saving and counts is not None and widens and products < PRODUCTS_ON_UNITS:
            after = Recompute(partial(_conv_anew, divisor, T), (counts, *fixed))
    elif divisor == 1 and (counts is not None or sparse.fits(layer, x)):
        bits = sparse.pack(s if counts is None else counts, x.dtype) if bits is None else bits
        if bits is not None:
            anew = kept_bits(bits, x.dtype, T)
            few = bits.share <= sparse.SHARE_ANEW or bits.share <= sparse.SHARE and widens and products <= PRODUCTS
            if saving and few:
                after = Recompute(partial(_sum_anew, arguments, T), (bits.words, *fixed))
            if bits.share > sparse.SHARE and counts is not None:
                value = bits.unpack(x.dtype)
        counts = None
    else:
        counts = bits = None
    if counts is None and bits is None and not saving:
        return Signal(unfold(arguments.forward(s, weight, bias), T))
    if anew is None:
        anew = kept_spikes(x, divisor) if weight.requires_grad and saving else Signal(x).back()
    out = _SpikeConv.apply(s, weight, bias, arguments, divisor, value, counts, bits, anew)
    if saving and after is None and widens and products <= PRODUCTS and (divisor is not None or arguments.groups > 1):
        after = Recompute(partial(_again, arguments, anew.compute), (*fixed, *anew.tensors))
    return Signal(unfold(out, T), anew=after)


def _sum_anew(layer: Layer, T: int, words: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return unfold(sparse.conv(words, weight, bias, layer), T)


def _large_counts(layer: Layer, compute, weight: Tensor, *tensors: Tensor | None) -> Tensor | None:
    """Large counts of one time step, channels innermost, that oneDNN multiplies pixel by pixel; None: it is something else."""
    counts = tensors[0] if len(tensors) == 1 and getattr(compute, 'func', None) is unpack else None
    if counts is None or counts.dim() != 5 or counts.shape[0] != 1 or not counts.permute(0, 1, 3, 4, 2).is_contiguous():
        return None
    large = counts.shape[3] >= 4 and counts[0, 0, 0].numel() >= LARGE
    return counts if large and layer.pointwise(weight) and _by_onednn(weight) else None


def _again(layer: Layer, compute, weight: Tensor, bias: Tensor | None, *tensors: Tensor | None) -> Tensor:
    counts = _large_counts(layer, compute, weight, *tensors)
    if counts is not None:
        # the same numbers strip by strip of an image, so that spikes are there next to nothing of what they give
        size = counts.shape[1], len(weight), *counts.shape[3:]
        out = torch.empty(size, dtype=weight.dtype, device=weight.device, memory_format=torch.channels_last)
        for image, of_image in zip(counts.split(1, 1), out.split(1), strict=True):
            for strip, to in zip(image.tensor_split(4, 3), of_image.tensor_split(4, 2), strict=True):
                to.copy_(layer.forward(channels_last(fold(compute(strip))), weight, bias))
        return unfold(out, 1)
    x = compute(*tensors)
    return unfold(layer.forward(fold(x), weight, bias), x.shape[0])


def _conv_anew(divisor: float, T: int, counts: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return unfold(amx.conv(counts, divisor, weight, bias), T)
