"""Integrate-and-fire neurons over T time steps: LIF, PLIF (learnable time constant) and IF."""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmspike.kernels import gpu
from mmspike.kernels import operators as cpu
from mmspike.registry import MODELS

from .base import BaseNeuron, membrane_dtype
from .surrogate import SURROGATES, check_surrogate


def _charge(x: Tensor, v: Tensor, tau: float | None, decay: Tensor | None, v_reset: float) -> Tensor:
    """Membrane before firing. ``decay`` (a tensor, 1 / tau) wins over ``tau``; with neither, nothing leaks."""
    if decay is not None:
        return v + (x - (v - v_reset)) * decay
    if tau is not None:
        return v + (x - (v - v_reset)) / tau
    return v + x


class _FireFunction(torch.autograd.Function):
    """All T steps as one node of the graph. It saves its input only and recomputes the membrane in the backward pass."""

    @staticmethod
    def forward(ctx, x, v, decay, tau, v_threshold, v_reset, surrogate, alpha):
        dtype = membrane_dtype(x)
        ctx.save_for_backward(x, v, decay)
        ctx.set_materialize_grads(False)
        ctx.args = tau, v_threshold, v_reset, surrogate, alpha
        if cpu.usable(x):
            return cpu.lif_forward(x, v, decay, tau, v_threshold, v_reset)
        if gpu.usable(x):
            return gpu.lif_forward(x, v, decay, tau, v_threshold, v_reset)
        v = x.new_full(x.shape[1:], v_reset, dtype=dtype) if v is None else v
        spikes = torch.empty_like(x)
        for t in range(x.shape[0]):
            h = _charge(x[t].to(dtype), v, tau, decay, v_reset)
            fired = h >= v_threshold
            spikes[t] = torch.where(h == h, fired, h)  # a NaN never fires, but must be seen
            v = torch.where(fired, v_reset, h)
        return spikes, v

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_spikes, grad_v):
        x, v, decay = ctx.saved_tensors
        tau, v_threshold, v_reset, surrogate, alpha = ctx.args
        rest = v is None
        grad_spikes = torch.zeros_like(x) if grad_spikes is None else grad_spikes
        if cpu.usable(x) or gpu.usable(x):
            kernels = gpu if x.device.type == 'cuda' else cpu
            grads = kernels.lif_backward(x, v, decay, grad_spikes, grad_v, tau, v_threshold, v_reset, surrogate, alpha)
            return grads[0], None if rest else grads[1], None if decay is None else grads[2].sum(), None, None, None, None, None
        dtype = membrane_dtype(x)
        v = x.new_full(x.shape[1:], v_reset, dtype=dtype) if rest else v
        grad_v = torch.zeros_like(v) if grad_v is None else grad_v
        T = x.shape[0]
        membranes, hidden = [v], []
        for t in range(T):
            h = _charge(x[t].to(dtype), membranes[-1], tau, decay, v_reset)
            hidden.append(h)
            membranes.append(torch.where(h >= v_threshold, v_reset, h))
        gain = decay if decay is not None else 1.0 if tau is None else 1.0 / tau
        leak = 1.0 if decay is None and tau is None else 1.0 - gain
        derivative = SURROGATES[surrogate][0]
        grad_x = torch.empty_like(x)
        grad_decay = torch.zeros_like(decay) if decay is not None else None
        for t in reversed(range(T)):
            u = hidden[t] - v_threshold
            # the reset is detached: a neuron that fired passes nothing on through its membrane
            grad_h = grad_spikes[t].to(dtype) * derivative(u, alpha) + torch.where(u >= 0, 0.0, grad_v)
            grad_x[t] = grad_h * gain
            if grad_decay is not None:
                grad_decay += (grad_h * (x[t].to(dtype) - (membranes[t] - v_reset))).sum()
            grad_v = grad_h * leak
        return grad_x, None if rest else grad_v, grad_decay, None, None, None, None, None


def lif(
    x: Tensor,
    v: Tensor | None = None,
    tau: float | Tensor = 2.0,
    v_threshold: float = 1.0,
    v_reset: float = 0.0,
    surrogate: str = 'sigmoid',
    alpha: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Leaky integrate-and-fire over all T steps, with decayed input and detached hard reset.

    .. math::
        h_t &= v_{t-1} + (x_t - (v_{t-1} - v_{reset})) / \tau \\
        s_t &= [h_t \ge v_{threshold}] \\
        v_t &= s_t\, v_{reset} + (1 - s_t)\, h_t

    Args:
        x: Input current [T, B, ...]. Half precision is integrated in float32 and the spikes come back in half.
        v: Membrane to start from [B, ...]; None: ``v_reset``.
        tau: Time constant in steps, > 1; a 0-dim tensor gets a gradient.
        v_threshold: Firing threshold.
        v_reset: Value after a spike.
        surrogate: 'sigmoid', 'atan' or 'rectangle'.
        alpha: Its sharpness; None: the surrogate's own default.

    Returns:
        Spikes [T, B, ...] in {0, 1} of x's dtype, and the last membrane [B, ...] in at least float32.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import lif
        >>> spikes, membrane = lif(torch.tensor([[1.2], [1.2], [1.2]]), None, tau=2.0)
        >>> spikes.flatten().tolist()
        [0.0, 0.0, 1.0]
    """
    decay = tau.reciprocal() if isinstance(tau, Tensor) else None
    return _fire(x, v, decay, None if decay is not None else tau, v_threshold, v_reset, surrogate, alpha)


def integrate_and_fire(
    x: Tensor,
    v: Tensor | None = None,
    v_threshold: float = 1.0,
    v_reset: float = 0.0,
    surrogate: str = 'sigmoid',
    alpha: float | None = None,
) -> tuple[Tensor, Tensor]:
    r""":func:`lif` without leak: :math:`h_t = v_{t-1} + x_t`, the rest alike.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import integrate_and_fire
        >>> spikes, membrane = integrate_and_fire(torch.tensor([[0.6], [0.6], [0.6]]), None)
        >>> spikes.flatten().tolist()
        [0.0, 1.0, 0.0]
    """
    return _fire(x, v, None, None, v_threshold, v_reset, surrogate, alpha)


def _fire(x, v, decay, tau, v_threshold, v_reset, surrogate, alpha):
    alpha = check_surrogate(surrogate, alpha)
    dtype = membrane_dtype(x)
    v = None if v is None else v.to(dtype).expand(x.shape[1:])
    if decay is not None:
        decay = decay.to(dtype)
    return _FireFunction.apply(x, v, decay, tau, v_threshold, v_reset, surrogate, alpha)


class _FiringNeuron(BaseNeuron):
    """Threshold, reset and surrogate, which LIF, PLIF and IF share."""

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float = 0.0,
        surrogate: str = 'sigmoid',
        alpha: float | None = None,
        stateful: bool = False,
    ) -> None:
        super().__init__(stateful)
        if v_threshold <= v_reset:
            raise ValueError(f'v_threshold must be above v_reset, got {v_threshold} and {v_reset}')
        self.v_threshold = float(v_threshold)
        self.v_reset = float(v_reset)
        self.surrogate = surrogate
        self.alpha = check_surrogate(surrogate, alpha)

    @property
    def firing(self) -> dict:
        return dict(v_threshold=self.v_threshold, v_reset=self.v_reset, surrogate=self.surrogate, alpha=self.alpha)

    def extra_repr(self) -> str:
        items = self.firing | (dict(stateful=True) if self.stateful else {})
        return ', '.join(f'{k}={v!r}' for k, v in items.items())


def _check_tau(tau: float) -> float:
    if tau <= 1:
        raise ValueError(f'tau must be above 1 step, got {tau}')
    return float(tau)


@MODELS.register_module()
class LIF(_FiringNeuron):
    """Leaky integrate-and-fire neuron, see :func:`lif`.

    Equal, spike by spike, to spikingjelly's ``LIFNode(tau, decay_input=True, v_threshold, v_reset, detach_reset=True,
    step_mode='m')`` that is reset before every call.

    Args:
        tau: Time constant in steps, > 1.
        v_threshold: Firing threshold.
        v_reset: Membrane after a spike and at rest.
        surrogate: 'sigmoid', 'atan' or 'rectangle'.
        alpha: Its sharpness; None: 4, 2 and 1 respectively.
        stateful: Keep the membrane between calls, see :class:`BaseNeuron`.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import LIF
        >>> LIF(tau=2.0)(torch.full((4, 1), 1.3)).flatten().tolist()
        [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, tau: float = 2.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.tau = _check_tau(tau)

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        return lif(x, v, self.tau, **self.firing)

    def extra_repr(self) -> str:
        return f'tau={self.tau}, {super().extra_repr()}'


@MODELS.register_module()
class PLIF(_FiringNeuron):
    r"""LIF with one learnable time constant per layer, :math:`1 / \tau = \mathrm{sigmoid}(w)` (arXiv 2007.05785).

    Args:
        tau: Initial time constant in steps, > 1. The others are :class:`LIF`'s.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import PLIF
        >>> PLIF(tau=2.0)(torch.full((4, 1), 1.3)).flatten().tolist()
        [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, tau: float = 2.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.w = nn.Parameter(torch.tensor(-math.log(_check_tau(tau) - 1)))

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        return _fire(x, v, self.w.sigmoid(), None, **self.firing)


@MODELS.register_module()
class IF(_FiringNeuron):
    """Integrate-and-fire neuron without leak, see :func:`integrate_and_fire`. Arguments as :class:`LIF` without tau.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import IF
        >>> IF()(torch.full((4, 1), 1.3)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    leaky = False

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        return integrate_and_fire(x, v, **self.firing)
