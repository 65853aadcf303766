"""Neurons written out in operations that every exporter knows, one time step after the other."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from mmspike.models.inspection import is_neuron
from mmspike.models.neurons import IF, ILIF, LIF, NILIF, PLIF, SFA

from .layers import BinarySteps, ThresholdSFA


class PlainFiring(nn.Module):
    """LIF, PLIF or IF as comparisons and sums, without gradient.

    Args:
        neuron: What it computes.

    Shape:
        [T, B, ...] in and out; T is fixed when it is traced.
    """

    def __init__(self, neuron: LIF | PLIF | IF) -> None:
        super().__init__()
        self.v_threshold = neuron.v_threshold
        self.v_reset = neuron.v_reset
        self.tau = neuron.tau if isinstance(neuron, LIF) else None
        # a learned time constant is a constant now
        self.decay = neuron.w.sigmoid().item() if isinstance(neuron, PLIF) else None

    def forward(self, x: Tensor) -> Tensor:
        v = torch.full_like(x[0], self.v_reset)
        spikes = []
        for t in range(x.shape[0]):
            current = x[t]
            if self.decay is not None:
                h = v + (current - (v - self.v_reset)) * self.decay
            elif self.tau is not None:
                h = v + (current - (v - self.v_reset)) / self.tau
            else:
                h = v + current
            fired = (h >= self.v_threshold).to(x.dtype)
            v = fired * self.v_reset + (1 - fired) * h
            spikes.append(fired)
        return torch.stack(spikes)


class PlainSFA(nn.Module):
    """SFA as clip, round and a division."""

    def __init__(self, neuron: SFA) -> None:
        super().__init__()
        self.levels = neuron.levels
        self.norm = neuron.norm
        self.rounding = neuron.rounding

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(0, self.levels)
        count = x.round() if self.rounding == 'even' else (x + 0.5).floor()
        return count if self.norm == 1 else count / self.norm


class PlainIntegerLIF(nn.Module):
    """ILIF or NILIF as clip, round and sums."""

    def __init__(self, neuron: ILIF) -> None:
        super().__init__()
        self.levels = neuron.levels
        self.norm = neuron.norm
        self.beta = neuron.beta

    def forward(self, x: Tensor) -> Tensor:
        v = torch.zeros_like(x[0])
        spikes = []
        for t in range(x.shape[0]):
            h = self.beta * v + x[t]
            count = h.clamp(0, self.levels).round()
            v = h - count
            spikes.append(count)
        return torch.stack(spikes) / self.norm


# exact classes: a subclass may compute something else
PLAIN = {LIF: PlainFiring, PLIF: PlainFiring, IF: PlainFiring, SFA: PlainSFA, ILIF: PlainIntegerLIF, NILIF: PlainIntegerLIF}
AS_THEY_ARE = (ThresholdSFA, BinarySteps)


def plain(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose neurons are plain operations; every call starts from rest.

    Raises:
        ValueError: A neuron has no plain form, or keeps its membrane between calls; it names them.
    """
    model = deepcopy(model)
    refused = []
    for name, module in model.named_modules():
        for child_name, child in list(module._modules.items()):
            full = f'{name}.{child_name}' if name else child_name
            if isinstance(child, AS_THEY_ARE):
                continue
            if type(child) in PLAIN and not child.stateful:
                module._modules[child_name] = PLAIN[type(child)](child)
            elif is_neuron(child):
                state = ' that keeps its membrane between calls' if getattr(child, 'stateful', False) else ''
                refused.append(f'{full} ({type(child).__name__}{state})')
    if refused:
        raise ValueError(
            f'cannot export {", ".join(refused)}: neurons that can be written out are {[c.__name__ for c in PLAIN]}, '
            'with stateful=False'
        )
    return model
