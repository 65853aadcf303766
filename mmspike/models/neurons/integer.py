"""Neurons with integer spikes: spike firing approximation (SFA), I-LIF and NI-LIF."""

import warnings

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmspike.kernels import gpu
from mmspike.kernels import operators as cpu
from mmspike.registry import MODELS

from .base import BaseNeuron, membrane_dtype


class _SFAFunction(torch.autograd.Function):
    """Saves one byte an element: whether it lies in the window."""

    @staticmethod
    def forward(ctx, x, levels, divisor, rounding):
        ctx.divisor = divisor
        if rounding == 'up':
            ctx.save_for_backward((x > 0) & (x < levels))
            out = (x.clamp(0, levels) + 0.5).floor()
            return out if divisor == 1 else out / divisor
        if cpu.usable(x) and not ctx.needs_input_grad[0] and not cpu.watched(x):
            return cpu.sfa_counts(x, levels, divisor)
        if cpu.usable(x) or gpu.usable(x):
            out, window = (gpu if x.device.type == 'cuda' else cpu).sfa_forward(x, levels, divisor)
            ctx.save_for_backward(window)
            return out
        ctx.save_for_backward((x >= 0) & (x <= levels))
        # nothing in place: torch.compile (2.11) then gets the gradient of what uses the output wrong
        out = x.clamp(0, levels).round()
        return out if divisor == 1 else out / divisor

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (window,) = ctx.saved_tensors
        if cpu.usable(grad) or gpu.usable(grad):
            return (gpu if grad.device.type == 'cuda' else cpu).sfa_backward(grad, window, ctx.divisor), None, None, None
        grad = grad * window
        return grad if ctx.divisor == 1 else grad / ctx.divisor, None, None, None


class _IntegerLIFFunction(torch.autograd.Function):
    """All T steps as one node of the graph, on CUDA. It saves its input alone, and recomputes the membrane going backward."""

    @staticmethod
    def forward(ctx, x, v, levels, beta, divisor):
        ctx.save_for_backward(x, v)
        ctx.set_materialize_grads(False)
        ctx.args = levels, beta, divisor
        return gpu.integer_lif_forward(x, v, levels, beta, divisor)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, grad_v):
        x, v = ctx.saved_tensors
        grad_spikes = torch.zeros_like(x) if grad_spikes is None else grad_spikes
        grad_x, grad_first = gpu.integer_lif_backward(x, v, grad_spikes, grad_v, *ctx.args)
        return grad_x, None if v is None else grad_first, None, None, None


def sfa(x: Tensor, levels: int = 4, divisor: float = 4, rounding: str = 'even') -> Tensor:
    r"""Spike firing approximation, elementwise: an integer count of spikes, normalised.

    .. math::
        s = \mathrm{round}(\mathrm{clip}(x, 0, D)) / \mathrm{divisor}

    Halves round to even. The gradient is straight-through: 1 / divisor where 0 <= x <= D, both ends included, 0 elsewhere
    (Spike-driven Transformer V3, arXiv 2411.16061).

    The masked autoencoder's published code rounds halves up, and its gradient is 0 at both ends, too. The two differ on halves
    and ends alone. Membranes behind a norm never lie there; sums of an attention do, since spikes are fractions of D: there
    the large models need ``rounding='up'``.

    Args:
        x: Membrane, any shape.
        levels: D, the largest count. In inference a count stands for D binary steps.
        divisor: Counts are divided by it; the papers call it Norm.
        rounding: Of halves: 'even', or 'up' with the gradient of an open window.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import sfa
        >>> sfa(torch.tensor([-1.0, 0.4, 1.6, 9.0]), 4, 4).tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    return _SFAFunction.apply(x, levels, divisor, rounding)


def integer_lif(
    x: Tensor, v: Tensor | None = None, levels: int = 4, beta: float = 0.25, divisor: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Leaky neuron over T steps with integer firing and soft, detached reset.

    .. math::
        h_t &= \beta\, (h_{t-1} - k_{t-1}) + x_t \\
        k_t &= \mathrm{round}(\mathrm{clip}(h_t, 0, D)) \\
        s_t &= k_t / \mathrm{divisor}

    with the gradient of :func:`sfa`. Divisor 1 is I-LIF (SpikeYOLO), divisor D is NI-LIF (Spike2Former).

    Args:
        x: Input current [T, B, ...]; half precision is integrated in float32.
        v: What the last step left, ``h - k`` [B, ...]; None: 0.
        levels: D, the largest count.
        beta: Decay a step.
        divisor: Counts are divided by it.

    Returns:
        Spikes [T, B, ...] of x's dtype, and ``h - k`` of the last step.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import integer_lif
        >>> counts, membrane = integer_lif(torch.tensor([[1.4], [0.3]]), None, 4, 0.25)
        >>> counts.flatten().tolist()
        [1.0, 0.0]
    """
    dtype = membrane_dtype(x)
    v = None if v is None else v.to(dtype).expand(x.shape[1:])
    if gpu.usable(x):
        return _IntegerLIFFunction.apply(x, v, levels, beta, divisor)
    v = x.new_zeros(x.shape[1:], dtype=dtype) if v is None else v
    spikes = []
    for current in x.to(dtype).unbind(0):
        h = beta * v + current
        count = sfa(h, levels, 1)
        v = h - count.detach()
        spikes.append(count)
    return (torch.stack(spikes) / divisor).to(x.dtype), v


def _check_levels(levels: int) -> int:
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise ValueError(f'levels must be a positive integer (the largest spike count D), got {levels!r}')
    return levels


@MODELS.register_module()
class SFA(BaseNeuron):
    """Spike firing approximation, see :func:`sfa`: integer in training, D binary steps in inference, one function in both.

    It has no time axis and no state: time steps, where there are several, do not see each other.

    Args:
        levels: D, the largest count: 1, 2, 4, 8, …; with 1 it is a binary neuron.
        divisor: Counts are divided by it; None: ``levels``, so that outputs lie in [0, 1]. The papers call it Norm.
        rounding: Of halves, 'even' or 'up', see :func:`sfa`.
        norm: The old name of ``divisor``.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import SFA
        >>> SFA(levels=4)(torch.full((4, 1), 1.3)).flatten().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    leaky = False
    has_memory = False

    def __init__(
        self, levels: int = 4, divisor: float | None = None, rounding: str = 'even', norm: float | None = None
    ) -> None:
        super().__init__()
        if norm is not None:
            warnings.warn("SFA: 'norm' is deprecated and will be removed in 0.3.0: use divisor", FutureWarning, stacklevel=2)
            if divisor not in (None, norm):
                raise ValueError(f'norm={norm} is the old name of divisor, which is {divisor}: give divisor alone')
            divisor = norm
        self.levels = _check_levels(levels)
        self.divisor = levels if divisor is None else divisor
        if self.divisor <= 0:
            raise ValueError(f'divisor must be positive, got {divisor}')
        if rounding not in ('even', 'up'):
            raise ValueError(f"rounding must be 'even' or 'up', got {rounding!r}")
        self.rounding = rounding

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, None]:
        return sfa(x, self.levels, self.divisor, self.rounding), None

    def extra_repr(self) -> str:
        return f'levels={self.levels}, divisor={self.divisor}' + ('' if self.rounding == 'even' else ', rounding=up')


@MODELS.register_module()
class ILIF(BaseNeuron):
    """Integer LIF (SpikeYOLO): T steps with counts 0 to D, not normalised, see :func:`integer_lif`.

    Args:
        levels: D, the largest count.
        beta: Decay a step, in [0, 1].
        stateful: Keep the membrane between calls, see :class:`BaseNeuron`.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import ILIF
        >>> ILIF(levels=4)(torch.full((4, 1), 1.3)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, levels: int = 4, beta: float = 0.25, stateful: bool = False) -> None:
        super().__init__(stateful)
        if not 0 <= beta <= 1:
            raise ValueError(f'beta must be in [0, 1], got {beta}')
        self.levels = _check_levels(levels)
        self.beta = float(beta)
        self.divisor = 1

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] == 1 and not self.stateful:  # one step from rest, after which nobody asks for the membrane
            return sfa(x.to(membrane_dtype(x)), self.levels, self.divisor).to(x.dtype)
        return super().forward(x)

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        return integer_lif(x, v, self.levels, self.beta, self.divisor)

    def extra_repr(self) -> str:
        return f'levels={self.levels}, beta={self.beta}, divisor={self.divisor}'


@MODELS.register_module()
class NILIF(ILIF):
    """Normalised integer LIF (Spike2Former): :class:`ILIF` whose output is divided by ``levels``.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import NILIF
        >>> NILIF(levels=4)(torch.full((4, 1), 1.3)).flatten().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self, levels: int = 4, beta: float = 0.25, stateful: bool = False) -> None:
        super().__init__(levels, beta, stateful)
        self.divisor = levels
