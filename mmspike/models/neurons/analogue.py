"""Neurons that give an analogue value instead of spikes: what reads them multiplies, so they are not spike-driven."""

import math

import torch
from torch import Tensor, nn

from mmspike.registry import MODELS

from .base import BaseNeuron, membrane_dtype


@MODELS.register_module()
class PLIAF(BaseNeuron):
    r"""Parametric leaky integrate and analogue fire: PLIF's membrane, but the output is the membrane before the reset.

    .. math::
        h_t &= v_{t-1} + (x_t - (v_{t-1} - v_{reset}))\, \mathrm{sigmoid}(w) \\
        y_t &= \mathrm{relu}(h_t) \\
        v_t &= v_{reset} \text{ where } h_t \ge v_{threshold}, \text{ else } h_t

    The reset is detached: no gradient passes through a membrane that was reset, and none needs a surrogate. The published
    ImageNet model of Spikeformer (arXiv 2211.10686) has this neuron.

    Args:
        tau: Initial time constant in steps, > 1: sigmoid(w) = 1 / tau.
        v_threshold: Threshold of the reset.
        v_reset: Membrane after a reset and at rest.
        stateful: Keep the membrane between calls, see :class:`BaseNeuron`.

    Example:
        >>> import torch
        >>> from mmspike.models.neurons import PLIAF
        >>> PLIAF()(torch.full((4, 1), 1.3)).flatten().tolist()
        [0.6499999761581421, 0.9749999642372131, 1.1374999284744263, 0.6499999761581421]
    """

    def __init__(self, tau: float = 2.0, v_threshold: float = 1.0, v_reset: float = 0.0, stateful: bool = False) -> None:
        super().__init__(stateful)
        if tau <= 1:
            raise ValueError(f'tau must be above 1 step, got {tau}')
        if v_threshold <= v_reset:
            raise ValueError(f'v_threshold must be above v_reset, got {v_threshold} and {v_reset}')
        self.v_threshold = float(v_threshold)
        self.v_reset = float(v_reset)
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        dtype = membrane_dtype(x)
        v = x.new_full(x.shape[1:], self.v_reset, dtype=dtype) if v is None else v
        decay = self.w.sigmoid()
        outputs = []
        for current in x.to(dtype).unbind(0):
            h = v + (current - (v - self.v_reset)) * decay
            outputs.append(h.relu())
            v = torch.where(h >= self.v_threshold, self.v_reset, h)
        return torch.stack(outputs).to(x.dtype), v

    def extra_repr(self) -> str:
        items = f'v_threshold={self.v_threshold}, v_reset={self.v_reset}'
        return items + ', stateful=True' if self.stateful else items
