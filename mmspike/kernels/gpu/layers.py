"""Layers of a row on CUDA that save little for the backward pass, as nodes of the graph on :class:`Signal`.

Spikes are computed anew in the backward pass from the input of the norm in front of them, which that has to keep anyway; those
of neurons without a norm come from the neuron's own input, or from one byte each. Weights are cast for autocast together.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..layout import fold, in_layout_of, unfold
from ..norm_neuron import IDENTITY, LIF, Neuron
from ..recompute import Recompute, Signal
from ..spike_conv import Layer
from . import norm_neuron as ops
from .integer import BYTE_LEVELS, pack, sfa_byte_backward, sfa_byte_forward, unpack
from .launch import REGISTER_STEPS
from .lif import lif_backward, lif_spikes


class _Cast(torch.autograd.Function):
    """Copies in half precision, all in one launch each way."""

    @staticmethod
    def forward(ctx, dtype, *tensors):
        copies = [torch.empty_like(t, dtype=dtype) for t in tensors]
        torch._foreach_copy_(copies, list(tensors))
        ctx.set_materialize_grads(False)
        ctx.dtypes = [t.dtype for t in tensors]
        return tuple(copies)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        given = [g for g in grads if g is not None]
        copies = [torch.empty_like(g, dtype=d) for g, d in zip(grads, ctx.dtypes, strict=True) if g is not None]
        if given:
            torch._foreach_copy_(copies, given)
        copied = iter(copies)
        return None, *(None if g is None else next(copied) for g in grads)


def cast_dtype(device: str) -> torch.dtype | None:
    """The dtype that autocast gives layers; None: it is off."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def cast(tensors: Sequence[Tensor], device: str) -> dict[Tensor, Tensor]:
    """Tensor -> what a layer computes with under the autocast that is on."""
    dtype = cast_dtype(device)
    wide = [t for t in tensors if dtype is not None and t.dtype == torch.float32]
    copies: dict[Tensor, Tensor] = {}
    for trained in (True, False):  # a copy beside one with a gradient would have one
        own = [t for t in wide if t.requires_grad == trained]
        copies |= dict(zip(own, _Cast.apply(dtype, *own), strict=True)) if own else {}
    return copies


class _NormNeuron(torch.autograd.Function):
    """N(norm(y)): saves y and four numbers a channel."""

    @staticmethod
    def forward(ctx, y, running, eps, momentum, neuron, training, *parameters):
        statistics = ops.batch_statistics(fold(y), eps[0]) if training else (None, None)
        out, affine = ops.norm_neuron_forward(y, *statistics, list(parameters), running, eps, momentum, neuron)
        ctx.save_for_backward(y, affine, *parameters)
        ctx.mark_non_differentiable(affine)
        ctx.set_materialize_grads(False)
        ctx.given = running, eps, neuron, training
        return out, affine

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        y, affine, *parameters = ctx.saved_tensors
        running, eps, neuron, training = ctx.given
        grad = in_layout_of(y, grad)
        sums = ops.norm_neuron_sums(y, grad, affine, neuron)
        grad_y, grads = ops.norm_neuron_backward(y, grad, affine, sums, parameters, running, eps, neuron, training)
        return grad_y, *[None] * 5, *grads


class Norm(NamedTuple):
    """The tensors and numbers of a batch norm, or of several side by side.

    Attributes:
        running: Running mean, running variance and number of batches.
    """

    weight: Any
    bias: Any
    running: list[Tensor]
    eps: float
    momentum: float
    training: bool


def of(norm: Any) -> Norm:
    """The tensors of a module."""
    running = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    return Norm(norm.weight, norm.bias, running, norm.eps, norm.momentum, norm.training)


def norm_neuron(norms: Sequence[Norm], neuron: Neuron, signal: Signal) -> Signal:
    """``neuron(norm(y))``, or ``neuron(norms[1](norms[0](y)))``; the output of the norms is not rounded in half precision."""
    y, numbers = ops.laid_out(signal.x), ops.numbers(neuron)
    parameters = [p for norm in norms for p in (norm.weight, norm.bias)]
    running, eps = [buffer for norm in norms for buffer in norm.running], [norm.eps for norm in norms]
    momentum = [norm.momentum for norm in norms]
    out, affine = _NormNeuron.apply(y, running, eps, momentum, numbers, norms[0].training, *parameters)
    divisor = None if neuron.kind == IDENTITY or neuron.levels > 255 else float(neuron.divisor)
    return Signal(out, divisor, None, Recompute(partial(_neurons_anew, numbers), (y.detach(), affine)))


def _neurons_anew(numbers: list[float], y: Tensor, affine: Tensor) -> Tensor:
    return ops.affine_neuron(y, affine, numbers, y.dtype)


class _BorderedNorm(torch.autograd.Function):
    """RepConv's first norm minus its output for a zero input, and what that adds behind the depthwise convolution."""

    @staticmethod
    def forward(ctx, y, weight, bias, kernel, norm, bias_counts):
        statistics = ops.batch_statistics(fold(y), norm.eps) if norm.training else (None, None)
        affine, edge, added = ops.border(
            kernel, *statistics, [weight, bias], norm.running, norm.eps, norm.momentum, y.numel() // y.shape[2]
        )
        out = ops.affine_neuron(y, affine, ops.numbers(Neuron()), y.dtype)
        ctx.save_for_backward(y, affine, weight, bias, edge, kernel)
        ctx.norm = norm._replace(weight=None, bias=None)  # they are saved
        ctx.mark_non_differentiable(affine, *([] if bias_counts else [added]))
        ctx.set_materialize_grads(False)
        return out, affine, added

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _, grad_added):
        y, affine, weight, bias, edge, kernel = ctx.saved_tensors
        neuron = ops.numbers(Neuron())
        grad = in_layout_of(y, grad)
        sums = ops.norm_neuron_sums(y, grad, affine, neuron)
        grad_y, (grad_weight, grad_bias) = ops.norm_neuron_backward(
            y, grad, affine, sums, [weight, bias], ctx.norm.running, [ctx.norm.eps], neuron, ctx.norm.training
        )
        grad_kernel = None
        if grad_added is not None:
            grad_kernel = (edge * grad_added).to(kernel.dtype).view(-1, 1, 1, 1).expand_as(kernel)
        return grad_y, grad_weight, grad_bias, grad_kernel, None, None


def bordered_norm(norm: Norm, kernel: Tensor, signal: Signal, bias_counts: bool) -> tuple[Signal, Tensor]:
    """The first norm of a RepConv, of which ``kernel`` is the depthwise weight, and the bias of that convolution [C].

    Args:
        bias_counts: The bias has a gradient. It is the same for all elements of a channel: where the norm behind has the
            statistics of the batch, which take it away again, its gradient is 0 and need not be computed.
    """
    y = ops.laid_out(signal.x)
    out, affine, bias = _BorderedNorm.apply(y, norm.weight, norm.bias, kernel, norm, bias_counts)
    return Signal(out, anew=Recompute(partial(_neurons_anew, ops.numbers(Neuron())), (y.detach(), affine))), bias


class _Layer(Layer):
    """The same by PyTorch's operators alone, whatever those of the CPU take."""

    def pointwise(self, weight: Tensor) -> bool:
        return False

    def backward(self, grad: Tensor, s: Tensor, weight: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, ...]:
        if self.linear:
            return super().backward(grad, s, weight, needs)
        sizes = [grad.shape[1]] if needs[2] else None
        args = self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups
        return torch.ops.aten.convolution_backward(grad, s, weight, sizes, *args, list(needs))


class _Conv(torch.autograd.Function):
    """A convolution or linear layer that saves what its input is computed from anew."""

    @staticmethod
    def forward(ctx, s, weight, bias, layer, anew):
        with torch.autocast(s.device.type, enabled=False):
            out = layer.forward(s, weight, bias)
        ctx.save_for_backward(weight, *(anew.tensors if ctx.needs_input_grad[1] else ()))
        ctx.layer, ctx.compute, ctx.shape = layer, anew.compute, s.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        weight, *kept = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        s = fold(ctx.compute(*kept)) if needs[1] else grad.new_empty(()).expand(ctx.shape)
        with torch.autocast(grad.device.type, enabled=False):
            return *ctx.layer.backward(grad, s, weight, needs), None, None


def conv(
    layer: nn.Module,
    signal: Signal,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, int] | None = None,
    groups: int | None = None,
) -> Signal:
    """A convolution or linear layer on [T, B, ...], with a weight and bias of the dtype to compute in.

    Args:
        padding, groups: In place of the layer's own.
    """
    x = signal.x
    if x.dtype != weight.dtype:  # the image, or membranes that an unusual module lifted
        signal = Signal(x.to(weight.dtype))
        x = signal.x
    arguments = _Layer(layer, padding)
    if groups is not None:
        arguments.groups = groups
    return Signal(unfold(_Conv.apply(fold(x), weight, bias, arguments, signal.back()), x.shape[0]))


def alike(a: Tensor, y: Tensor) -> bool:
    """A shortcut can be read at the places of what a norm reads; one repeated over time cannot."""
    y = ops.laid_out(y)
    places = zip(a.shape, a.stride(), y.stride(), strict=False)
    return a.shape == y.shape and a.dtype == y.dtype and all(n == 1 or one == other for n, one, other in places)


def takes(neuron: Neuron | None, steps: int) -> bool:
    """There is a kernel for a neuron behind a norm: it holds so many membranes in registers, or counts in bytes."""
    if neuron is None or neuron.kind == LIF:
        return neuron is not None and steps <= REGISTER_STEPS
    return neuron.levels <= BYTE_LEVELS


class _Fire(torch.autograd.Function):
    """LIF or IF from rest without its last membrane."""

    @staticmethod
    def forward(ctx, x, neuron):
        ctx.save_for_backward(x)
        ctx.neuron = neuron
        return spikes_anew(neuron, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,), n = ctx.saved_tensors, ctx.neuron
        return lif_backward(x, None, None, grad, None, _tau(n), n.v_threshold, n.v_reset, n.surrogate, n.alpha)[0], None


class _Count(torch.autograd.Function):
    """SFA that saves one byte: the count, and whether the window of the gradient is open."""

    @staticmethod
    def forward(ctx, x, neuron):
        out, code = sfa_byte_forward(x, neuron.levels, neuron.divisor)
        ctx.save_for_backward(code)
        ctx.divisor = neuron.divisor
        ctx.mark_non_differentiable(code)
        ctx.set_materialize_grads(False)
        return out, code

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        (code,) = ctx.saved_tensors
        return sfa_byte_backward(grad, code, ctx.divisor), None


def _tau(neuron: Neuron) -> float | None:
    return neuron.tau if neuron.leak else None


def spikes_anew(neuron: Neuron, x: Tensor) -> Tensor:
    """LIF or IF from rest."""
    return lif_spikes(x, _tau(neuron), neuron.v_threshold, neuron.v_reset)


def coded(code: Tensor, divisor: float, dtype: torch.dtype) -> Recompute:
    """The recomputation of spikes of up to 126 levels from their bytes."""
    return Recompute(partial(unpack, divisor=divisor, dtype=dtype), (code,))


def kept(spikes: Tensor, divisor: float) -> Recompute:
    """The recomputation of spikes of up to 126 levels, kept as one byte each."""
    return coded(pack(spikes.detach(), divisor), divisor, spikes.dtype)


def fire(neuron: Neuron, x: Tensor) -> Signal:
    """Spikes of LIF or IF from rest, or of SFA of up to 126 levels."""
    if neuron.kind == LIF:
        return Signal(_Fire.apply(x, neuron), 1.0, None, Recompute(partial(spikes_anew, neuron), (x.detach(),)))
    spikes, code = _Count.apply(x, neuron)
    divisor = float(neuron.divisor)
    return Signal(spikes, divisor, None, coded(code, divisor, x.dtype))
