"""Batch norm, or two in a row, plus a shortcut, and the neuron on the sum: m = shortcut + norm(y) and N(m) as one operator.

Going back the same operator adds the gradients of m and of N(m), and takes the sums that the norm needs of them.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..layout import fold, in_layout_of
from ..norm_neuron import IDENTITY, LIF, SFA, Neuron
from ..recompute import Recompute, Signal
from . import norm_neuron as ops
from .launch import operator, start_on
from .layers import Norm, coded, spikes_anew
from .shortcut_kernels import _norm_sum_forward, _norm_sum_gradient


@operator('norm_sum_forward_triton', mutates_args=('running',))
def norm_sum_forward(
    y: Tensor, shortcut: Tensor | None, mean: Tensor | None, inverse: Tensor | None, parameters: list[Tensor],
    running: list[Tensor], eps: list[float], momentum: list[float], neuron: list[float], code: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The sum and its spikes in y's dtype, bytes of the spikes, and ``affine``; what is not asked for is empty.

    Args:
        shortcut: Laid out as y; None: the sum is the norm's output.
        code: Bytes are asked for.

    The others are those of :func:`~.norm_neuron.norm_neuron_forward`.
    """
    kind, values, _, _ = ops.constants(neuron)
    own, fires = ops.layout(y, kind['KIND']), kind['KIND'] != IDENTITY
    total, affine = torch.empty_like(y), y.new_empty(4, own.channels, dtype=torch.float32)
    out = torch.empty_like(y) if fires else y.new_empty(0)
    codes = torch.empty_like(y, dtype=torch.uint8) if code else y.new_empty(0, dtype=torch.uint8)
    count = own.steps * own.elements
    start_on(
        _norm_sum_forward, y, own.grid, y, y if shortcut is None else shortcut, total, out if fires else y,
        codes if code else y, affine, y if mean is None else mean, y if inverse is None else inverse,
        *parameters[:2], *running[:3], *parameters[-2:], *running[-3:], *own.sizes, eps[0], eps[-1], momentum[0], momentum[-1],
        count / max(count - 1, 1), *values, TRAINING=mean is not None, DOUBLE=len(parameters) == 4,
        SHORTCUT=shortcut is not None, CODE=code, **kind, **own.known,
    )  # fmt: skip
    return total, out, codes, affine


@operator('norm_sum_gradient_triton')
def norm_sum_gradient(
    y: Tensor, kept: Tensor, grad_sum: Tensor | None, grad: Tensor, affine: Tensor, neuron: list[float]
) -> tuple[Tensor, Tensor]:
    """The whole gradient of the sum, and parts [parts, 2, C] of what :func:`~.norm_neuron.norm_neuron_backward` needs of it.

    Args:
        kept: The sum of a neuron that fires, the bytes of one that counts.
        grad_sum: The gradient of the sum without its spikes'; None: there is none.
        grad: The gradient of the spikes.
    """
    kind, _, values, surrogate = ops.constants(neuron)
    own, total = ops.layout(y, kind['KIND']), torch.empty_like(y)
    parts, rounds = own.shared(ops.SUMMING)
    out = affine.new_empty(parts, 2, own.channels)
    start_on(
        _norm_sum_gradient, y, (parts, own.grid[1]), y, kept, grad if grad_sum is None else grad_sum, grad, affine, total, out,
        *own.sizes, rounds, *values, SUM=grad_sum is not None, **kind, SURROGATE=surrogate, **own.known,
    )  # fmt: skip
    return total, out


class _NormSum(torch.autograd.Function):
    """Saves y, four numbers a channel, and one byte an element for a neuron that counts, the sum for one that fires."""

    @staticmethod
    def forward(ctx, y, shortcut, running, eps, momentum, neuron, training, code, *parameters):
        statistics = ops.batch_statistics(fold(y), eps[0]) if training else (None, None)
        total, spikes, codes, affine = norm_sum_forward(
            y, shortcut, *statistics, list(parameters), running, eps, momentum, neuron, code
        )
        kind = int(neuron[0])
        ctx.save_for_backward(y, affine, {LIF: total, SFA: codes}.get(kind), *parameters)
        ctx.mark_non_differentiable(codes, affine, *([spikes] if kind == IDENTITY else []))
        ctx.set_materialize_grads(False)
        ctx.given = running, eps, neuron, training
        return total, spikes, codes, affine

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_sum, grad, *_):
        y, affine, kept, *parameters = ctx.saved_tensors
        running, eps, neuron, training = ctx.given
        nothing = ops.numbers(Neuron())
        grad_sum = None if grad_sum is None else in_layout_of(y, grad_sum)
        if grad is None:
            total, sums = grad_sum, ops.norm_neuron_sums(y, grad_sum, affine, nothing)
        else:
            total, sums = norm_sum_gradient(y, kept, grad_sum, in_layout_of(y, grad), affine, neuron)
        grad_y, grads = ops.norm_neuron_backward(y, total, affine, sums, parameters, running, eps, nothing, training)
        return grad_y, total if ctx.needs_input_grad[1] else None, *[None] * 6, *grads


def norm_sum_neuron(
    norms: Sequence[Norm], neuron: Neuron | None, signal: Signal, shortcut: Tensor | None
) -> tuple[Signal, Signal]:
    """The sum ``shortcut + norms(y)``, and the spikes of ``neuron`` on it, or without one the sum again.

    The shortcut is one that :func:`~.layers.alike` takes.
    """
    y, saving = ops.laid_out(signal.x), torch.is_grad_enabled()
    known = neuron or Neuron()
    total, spikes, codes, affine = _NormSum.apply(
        y,
        shortcut,
        [buffer for norm in norms for buffer in norm.running],
        [norm.eps for norm in norms],
        [norm.momentum for norm in norms],
        ops.numbers(known),
        norms[0].training,
        saving and known.kind == SFA,
        *(p for norm in norms for p in (norm.weight, norm.bias)),
    )
    if neuron is None:
        return Signal(total), Signal(total)
    divisor, anew = float(neuron.divisor), None
    if saving and neuron.kind == SFA:
        anew = coded(codes, divisor, spikes.dtype)
    elif saving:
        anew = Recompute(partial(spikes_anew, neuron), (total.detach(),))
    return Signal(total), Signal(spikes, divisor, None, anew)
