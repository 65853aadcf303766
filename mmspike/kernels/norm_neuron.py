"""Batch norm and the neuron behind it as one node of the graph, on the CPU.

The norm's output, the membranes and the spikes follow from the norm's input: that alone is saved for the backward pass. Tensors
are [T, B, C, H, W] with channels innermost in memory, or [T, B, C].
"""

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .counts import kept_counts
from .layout import fold, images, rows, unfold
from .library import call, check, pointers
from .operators import SURROGATE_CODES
from .recompute import Recompute, Signal, kept_bits
from .sparse import pack

LIF, SFA, IDENTITY = 0, 1, 2


class Neuron(NamedTuple):
    """A neuron as the kernel knows it: LIF, IF (``leak`` 0), SFA with halves rounded to even, or none."""

    kind: int = IDENTITY
    leak: int = 0
    surrogate: str = 'sigmoid'
    tau: float = 1.0
    v_threshold: float = 1.0
    v_reset: float = 0.0
    alpha: float = 1.0
    levels: int = 1
    divisor: float = 1.0

    @property
    def binary(self) -> bool:
        """It puts out 0 and 1."""
        return self.kind != IDENTITY and self.levels == self.divisor == 1


def _struct(real: type) -> type:
    fields: list[tuple[str, type]] = [(k, ctypes.c_int) for k in ('kind', 'leak', 'surrogate')]
    fields += [(k, real) for k in ('tau', 'v_threshold', 'v_reset', 'alpha', 'levels', 'divisor')]
    return type('Neuron', (ctypes.Structure,), dict(_fields_=fields))


_STRUCTS = {torch.float32: _struct(ctypes.c_float), torch.float64: _struct(ctypes.c_double)}


@lru_cache
def _arguments(neuron: Neuron, dtype: torch.dtype):
    return ctypes.byref(_STRUCTS[dtype](**neuron._asdict() | dict(surrogate=SURROGATE_CODES[neuron.surrogate])))


def _sizes(y: Tensor) -> list[ctypes.c_int64]:
    """T, rows a time step, channels of [T, B, H, W, C]."""
    T, C = y.shape[0], y.shape[-1]
    return [ctypes.c_int64(n) for n in (T, y.numel() // (T * C), C)]


def batch_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of [T, B, C, H, W], without gradient."""
    y = rows(y.detach())
    C = y.shape[-1]
    sizes = ctypes.c_int64(y.numel() // C), ctypes.c_int64(C)
    mean, var = y.new_empty(C), y.new_empty(C)
    partial = y.new_empty(call('norm_blocks', y.dtype, *sizes), 2, C, dtype=torch.float64)
    check(call('norm_statistics', y.dtype, *pointers(y, mean, var, partial), *sizes))
    return mean, var


def _call(y: Tensor, scale: Tensor, shift: Tensor, neuron: Neuron, out: Tensor | None, counts: Tensor | None) -> int:
    tensors = pointers(y, scale, shift, out, counts)
    return call('norm_neuron_forward', y.dtype, *tensors, *_sizes(y), _arguments(neuron, y.dtype))


def _forward(y: Tensor, scale: Tensor, shift: Tensor, neuron: Neuron) -> Tensor:
    """N(y * scale + shift)."""
    out = torch.empty_like(y)
    check(_call(y, scale, shift, neuron, out, None))
    return out


def _counted(y: Tensor, scale: Tensor, shift: Tensor, neuron: Neuron, out: Tensor | None = None) -> Tensor | None:
    """The same as counts of one byte, and in ``out``; None: there is a NaN, which a byte cannot hold."""
    counts = torch.empty_like(y, dtype=torch.uint8)
    failed = _call(y, scale, shift, neuron, out, counts)
    check(failed == 1)
    return None if failed else counts


class _NormNeuron(torch.autograd.Function):
    """N(norm(y)): saves y, or what y is computed from, and computes everything else anew in the backward pass."""

    @staticmethod
    def forward(ctx, y, weight, bias, eps, mean, inverse, scale, shift, training, neuron, anew, count, keep, alone):
        y = rows(y)
        out = torch.empty_like(y) if keep else None
        counts = _counted(y, scale, shift, neuron, out) if count or keep else None
        ctx.save_for_backward(scale, shift, mean, inverse, weight, *((y,) if anew is None else anew.tensors))
        ctx.compute = None if anew is None else anew.compute
        ctx.training, ctx.neuron, ctx.count = training, neuron, out is None and counts is not None
        ctx.alone = alone or ctx.count
        if counts is not None:
            counts = images(counts)
            ctx.mark_non_differentiable(counts)
        if ctx.count:
            return y.new_zeros(()).expand(counts.shape), counts
        return images(_forward(y, scale, shift, neuron) if out is None else out), counts

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, *_):
        scale, shift, mean, inverse, weight, *kept = ctx.saved_tensors
        y = kept[0] if ctx.compute is None else rows(ctx.compute(*kept))
        grad = rows(grad)
        sizes = _sizes(y)
        grad_y, sums = grad if ctx.alone else torch.empty_like(y), y.new_empty(2, y.shape[-1])
        partial = y.new_empty(call('norm_blocks', y.dtype, *sizes[1:]), 2, y.shape[-1], dtype=torch.float64)
        tensors = pointers(y, grad, scale, shift, mean, inverse, grad_y, sums, partial)
        training = ctypes.c_int(ctx.training)
        check(call('norm_neuron_backward', y.dtype, *tensors, *sizes, training, _arguments(ctx.neuron, y.dtype)))
        grad_bias, dot = sums
        grad_weight = dot * inverse
        grad_eps = -0.5 * dot * weight * inverse**3 if ctx.needs_input_grad[3] else None
        return images(grad_y), grad_weight, grad_bias, grad_eps, *[None] * 10


def norm_neuron(
    norms: Sequence[nn.BatchNorm2d],
    neuron: Neuron,
    signal: Signal,
    offset: Callable[[], Tensor] | None = None,
    count: bool = False,
    alone: bool = False,
) -> Signal:
    """``neuron(norm(y))``, ``neuron(norms[1](norms[0](y)))`` for two norms, of the tensor y of ``signal``.

    Args:
        offset: Gives what is subtracted from the output of a single norm [C], without gradient; called when the running
            statistics are up to date.
        count: Give spikes as counts of one byte, behind a tensor of the right shape that stands for them in the graph: for a
            single :func:`mmspike.kernels.spike_conv.spike_conv`.
        alone: One consumer makes a gradient of its own for the output, which may be overwritten; so it is with counts.
    """
    norm, saving = norms[0], torch.is_grad_enabled()
    training = norm.training
    if neuron.kind == IDENTITY and len(norms) == 1 and offset is None and not (training or saving):
        return Signal(unfold(norm(fold(signal.x)), signal.x.shape[0]))  # nothing to save, and nothing to join
    y = images(rows(signal.x))  # one copy at most, which both nodes save
    signal = signal._replace(x=y)
    mean, var = batch_statistics(y) if training else (norm.running_mean, norm.running_var)
    if training:
        n = y.numel() // y.shape[2]
        update_running(norm, mean, var, n)
        if len(norms) == 2:
            update_running(norms[1], norm.bias, norm.weight.square() * var / (var + norm.eps), n)
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    if len(norms) == 2:
        weight, bias, eps = _merged(*norms)
    elif offset is not None:
        bias = bias - offset()
    with torch.no_grad():
        inverse = (var + eps).rsqrt()
        scale = weight * inverse
        shift = bias - mean * scale
    divisor = None if neuron.kind == IDENTITY or neuron.levels > 255 else float(neuron.divisor)
    # counts where their input is not kept: what computes it anew does so once
    keep = saving and not count and divisor is not None and not neuron.binary and signal.anew is not None
    tensors = y, weight, bias, eps, mean, inverse, scale, shift
    out, counts = _NormNeuron.apply(*tensors, training, neuron, signal.anew, count, keep, alone)
    if keep:
        return Signal(out, divisor, None, kept_counts(counts, out, divisor))
    bits = pack(fold(out), out.dtype) if neuron.binary and counts is None and saving else None
    anew = _again(neuron, scale, shift, signal) if bits is None else kept_bits(bits, out.dtype, out.shape[0])
    return Signal(out, divisor, counts, anew, bits)


def scaled_neuron(neuron: Neuron, signal: Signal, scale: float) -> Tensor:
    """``neuron(x * scale)`` of the tensor x of ``signal``, which is not saved where it can be computed anew."""
    x = signal.x
    factor, zero = x.new_full((x.shape[2],), scale), x.new_zeros(x.shape[2])
    inverse = torch.ones_like(factor)
    return _NormNeuron.apply(
        x, factor, zero, 0.0, zero, inverse, factor, zero, False, neuron, signal.anew, False, False, False
    )[0]


def _again(neuron: Neuron, scale: Tensor, shift: Tensor, signal: Signal) -> Recompute:
    before = signal.back()
    return Recompute(partial(_anew, neuron, before.compute), (scale, shift, *before.tensors))


def _anew(neuron: Neuron, compute: Callable[..., Tensor], scale: Tensor, shift: Tensor, *tensors: Tensor | None) -> Tensor:
    return images(_forward(rows(compute(*tensors)), scale, shift, neuron))


def neuron_anew(neuron: Neuron, signal: Signal, scale: float = 1.0) -> Recompute:
    """The recomputation of ``neuron(x * scale)``."""
    x = signal.x
    return _again(neuron, x.new_full((x.shape[2],), scale), x.new_zeros(x.shape[2]), signal)


def _merged(first: nn.BatchNorm2d, second: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor | float]:
    """Weight, bias and eps of the one norm that equals two in a row, with the statistics of the first's input."""
    if not first.training:
        weight = second.weight * (second.running_var + second.eps).rsqrt()
        return first.weight * weight, (first.bias - second.running_mean) * weight + second.bias, first.eps
    # the first's output has the mean `bias` and the variance weight^2 var / (var + eps)
    square = first.weight.square() + second.eps
    # the second takes the first's bias away again: it has the gradient 0, and not none
    return second.weight * first.weight * square.rsqrt(), second.bias + 0 * first.bias, second.eps * first.eps / square


@torch.no_grad()
def update_running(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, n: int) -> None:
    """Move a norm's running statistics towards those of a batch of ``n`` values a channel."""
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(var * (n / (n - 1)), norm.momentum)
