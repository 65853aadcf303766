"""Batch norm, or two in a row, and the neuron behind it, as one operator forward and two backward.

The statistics of a batch are PyTorch's. Layouts are those of :func:`laid_out`; ``affine`` is what the kernels say.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..norm_neuron import LIF, Neuron
from ..operators import SURROGATE_CODES
from .launch import operator, start_on
from .norm_neuron_kernels import _affine_neuron, _border, _norm_neuron_backward, _norm_neuron_forward, _norm_neuron_sums

TILE = 1024
#: programs that take the sums over all elements, each one part of them, and that read them; a GPU has 40 to 150 processors
SUMMING, READING = 256, 1024


class Layout(NamedTuple):
    """The way in which a kernel reads a tensor [T, B, C, H, W] or [T, B, C]; ``steps`` is 1 where the neuron has no memory."""

    steps: int
    elements: int
    channels: int
    inner: int
    innermost: bool

    @property
    def tile(self) -> tuple[int, int]:
        """Elements and channels of a program's tile."""
        width = min(64, 1 << (self.channels - 1).bit_length()) if self.innermost else 1
        return TILE // width, width

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along the elements and along the channels."""
        rows, width = self.tile
        return -(-self.elements // rows), -(-self.channels // width)

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.elements, self.channels, self.inner

    @property
    def known(self) -> dict:
        rows, width = self.tile
        wide = self.elements > 2**30  # the number of an element then needs 64 bits
        return dict(T=self.steps, INNERMOST=self.innermost, WIDE=wide, BM=rows, BN=width)

    def shared(self, programs: int) -> tuple[int, int]:
        """So many programs along the elements, and tiles of each, that there are about ``programs`` in all."""
        rows, columns = self.grid
        rounds = -(-rows // max(1, programs // columns))
        return -(-rows // rounds), rounds


def layout(y: Tensor, kind: int) -> Layout:
    """The layout of a tensor as :func:`laid_out` gives it."""
    inner = y.shape[3] * y.shape[4] if y.dim() == 5 else 1
    innermost = inner == 1 or y.stride(2) == 1
    steps, elements = y.shape[0], y.shape[1] * inner
    steps, elements = (steps, elements) if kind == LIF else (1, steps * elements)
    return Layout(steps, elements, y.shape[2], 1 if innermost else inner, innermost)


def laid_out(y: Tensor) -> Tensor:
    """``y`` in one piece, time outermost, with channels innermost where they are, else in PyTorch's order."""
    innermost = y.dim() == 5 and y.stride(2) == 1 and y.shape[2] > 1
    return y.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3) if innermost else y.contiguous()


def laid_out_like(x: Tensor) -> Tensor:
    """A new tensor in one piece for the channels of ``x``, which may be some of a larger tensor's, ordered as they are."""
    if x.dim() == 5 and x.stride(2) == 1 and x.stride(4) > 1:
        T, B, C, H, W = x.shape
        return x.new_empty(T, B, H, W, C).permute(0, 1, 4, 2, 3)
    return x.new_empty(x.shape)


def numbers(neuron: Neuron) -> list[float]:
    """A neuron as the operators take it: kind, leak, surrogate, tau, v_threshold, v_reset, alpha, levels, divisor."""
    return [float(SURROGATE_CODES[n] if isinstance(n, str) else n) for n in neuron]


def constants(numbers: list[float]) -> tuple[dict, tuple, tuple, int]:
    """Constants of a neuron, its numbers for kernels without and with alpha, and its surrogate."""
    kind, leak, surrogate, tau, v_threshold, v_reset, alpha, levels, divisor = numbers
    firing = tau, v_threshold, v_reset
    return dict(KIND=int(kind), LEAK=int(leak)), (*firing, levels, divisor), (*firing, alpha, levels, divisor), int(surrogate)


@operator('norm_neuron_forward_triton', mutates_args=('running',))
def norm_neuron_forward(
    y: Tensor,
    mean: Tensor | None,
    inverse: Tensor | None,
    parameters: list[Tensor],
    running: list[Tensor],
    eps: list[float],
    momentum: list[float],
    neuron: list[float],
) -> tuple[Tensor, Tensor]:
    """N(norm(y)) in y's dtype, and ``affine``.

    Args:
        y: As :func:`laid_out` gives it.
        mean, inverse: Statistics of the batch [C]; None: evaluation, with the running ones.
        parameters: Weight and bias [C] of the norm, or of both.
        running: Running mean, running variance [C] and number of batches of each.
        neuron: As :func:`numbers` gives it.
    """
    own = layout(y, int(neuron[0]))
    out, affine = torch.empty_like(y), y.new_empty(4, own.channels, dtype=torch.float32)
    double, count = len(parameters) == 4, own.steps * own.elements
    kind, values, _, _ = constants(neuron)
    start_on(
        _norm_neuron_forward, y, own.grid, y, out, affine, y if mean is None else mean, y if inverse is None else inverse,
        *parameters[:2], *running[:3], *parameters[-2:], *running[-3:], *own.sizes, eps[0], eps[-1], momentum[0], momentum[-1],
        count / max(count - 1, 1), *values, TRAINING=mean is not None, DOUBLE=double, **kind, **own.known,
    )  # fmt: skip
    return out, affine


@operator('affine_neuron_triton')
def affine_neuron(y: Tensor, affine: Tensor, neuron: list[float], dtype: torch.dtype) -> Tensor:
    """The same from ``affine``, bit by bit, in ``dtype``."""
    own, out = layout(y, int(neuron[0])), torch.empty_like(y, dtype=dtype)
    kind, values, _, _ = constants(neuron)
    start_on(_affine_neuron, y, own.grid, y, out, affine, *own.sizes, *values, **kind, **own.known)
    return out


@operator('border_triton', mutates_args=('running',))
def border(
    kernel: Tensor, mean: Tensor | None, inverse: Tensor | None, parameters: list[Tensor], running: list[Tensor], eps: float,
    momentum: float, count: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``affine``, border [C] and bias [C] of RepConv's first norm and the weight ``kernel`` [C, 1, 3, 3] behind it.

    The border is the norm's output for a zero input by its running statistics, which this moves; ``affine`` takes it away, and
    the bias, in the kernel's dtype, is what it adds behind the kernel.
    """
    C = kernel.shape[0]
    affine, edge = kernel.new_empty(4, C, dtype=torch.float32), kernel.new_empty(C, dtype=torch.float32)
    bias = kernel.new_empty(C)
    start_on(
        _border, kernel, (-(-C // 64),), affine, edge, bias, kernel, kernel if mean is None else mean,
        kernel if inverse is None else inverse, *parameters, *running, C, eps, momentum, count / max(count - 1, 1),
        TRAINING=mean is not None, TAPS=kernel[0].numel(), BN=64,
    )  # fmt: skip
    return affine, edge, bias


@operator('norm_neuron_sums_triton')
def norm_neuron_sums(y: Tensor, grad: Tensor, affine: Tensor, neuron: list[float]) -> Tensor:
    """Parts [parts, 2, C] of the sums that :func:`norm_neuron_backward` needs."""
    own = layout(y, int(neuron[0]))
    parts, rounds = own.shared(SUMMING)
    out = affine.new_empty(parts, 2, own.channels)
    kind, _, values, surrogate = constants(neuron)
    start_on(
        _norm_neuron_sums, y, (parts, own.grid[1]), y, grad, affine, out, *own.sizes, rounds, *values, **kind,
        SURROGATE=surrogate, **own.known,
    )  # fmt: skip
    return out


@operator('norm_neuron_backward_triton')
def norm_neuron_backward(
    y: Tensor, grad: Tensor, affine: Tensor, sums: Tensor, parameters: list[Tensor], running: list[Tensor], eps: list[float],
    neuron: list[float], training: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of y and of the parameters, [2, C] or for two norms [4, C]."""
    own, double = layout(y, int(neuron[0])), len(parameters) == 4
    grad_y, grads = torch.empty_like(y), affine.new_empty(4 if double else 2, own.channels)
    programs, rounds = own.shared(READING)
    kind, _, values, surrogate = constants(neuron)
    start_on(
        _norm_neuron_backward, y, (programs, own.grid[1]), y, grad, affine, sums, grad_y, grads, *parameters[:2],
        parameters[-2], running[-3], running[1], running[-2], *own.sizes, rounds, sums.shape[0],
        float(own.steps * own.elements), eps[0], eps[-1], *values,
        TRAINING=training, DOUBLE=double, **kind, SURROGATE=surrogate, **own.known,
    )  # fmt: skip
    return grad_y, grads


@torch.library.custom_op('mmspike::batch_statistics_cuda', mutates_args=())
def batch_statistics(y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(biased variance + eps) in float32 of each channel of [N, C, ...]."""
    if y.is_cuda:
        return torch.batch_norm_stats(y, eps)
    y = y.float()  # Triton's interpreter
    var, mean = torch.var_mean(y, [d for d in range(y.dim()) if d != 1], correction=0)
    return mean, (var + eps).sqrt().reciprocal()


@batch_statistics.register_fake
def _(y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    mean = y.new_empty(y.shape[1], dtype=torch.float32)
    return mean, torch.empty_like(mean)
