"""Layers of deployed networks: neurons of whole counts and of binary steps, and the weights and pools that read them.

In a deployed network a neuron sends whole counts 0 to D. Expanded, it sends D binary steps instead, [D * T, B, ...] with the
level outermost, and the linear map that reads them adds the steps up.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.models.layers import fold
from mmspike.models.neurons import BaseNeuron


class ThresholdSFA(BaseNeuron):
    """SFA neuron whose scale is folded into D thresholds: the count is how many of them a whole-number input reaches.

    Args:
        thresholds: D ascending integers.
    """

    leaky = False
    has_memory = False

    def __init__(self, thresholds: Tensor) -> None:
        super().__init__()
        self.levels = len(thresholds)
        self.divisor = 1
        self.register_buffer('thresholds', thresholds)

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, None]:
        counts = torch.zeros_like(x)
        for threshold in self.thresholds.unbind():
            counts = counts + (x >= threshold).to(x.dtype)
        return counts, None

    def extra_repr(self) -> str:
        return f'thresholds={[int(t) for t in self.thresholds]}'


class BinarySteps(BaseNeuron):
    """A neuron of counts 0 to D that sends D binary steps, of which as many fire as the count says.

    Args:
        neuron: A neuron with ``levels`` and unit spikes.

    Shape:
        [T, B, ...] -> [D * T, B, ...], the level outermost.
    """

    def __init__(self, neuron: BaseNeuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.levels = self.divisor = 1
        self.layout = neuron.layout

    def forward(self, x: Tensor) -> Tensor:
        counts = self.neuron(x)
        return torch.cat([(counts > d).to(x.dtype) for d in range(self.neuron.levels)])

    def extra_repr(self) -> str:
        return f'levels={self.neuron.levels}'


def on_grid(x: Tensor, terms: float) -> Tensor:
    """``x`` in float64, rounded so that ``terms`` times its largest element is added up without rounding, in any order."""
    bound = terms * x.abs().max().item() if x.numel() else 0.0
    if bound == 0:
        return x
    grid = 2.0 ** (math.ceil(math.log2(bound)) - 52)
    return (x / grid).round() * grid


class Accumulate(nn.Module):
    """A convolution or linear layer that adds its weights up exactly, whatever the order, and sums over binary steps.

    The sums run in float64, where they are those of a fixed-point accumulator of 53 bits: weights are rounded to multiples of
    2^-53 times the largest possible sum, so that no addition rounds. That is below the rounding of float32 weights by far.

    Args:
        layer: ``nn.Conv2d``, ``nn.ConvTranspose2d`` or ``nn.Linear``.
        levels: Binary steps D that stand outermost in the first dimension of the input.
        largest: Largest count that the input may have in all steps together.

    Shape:
        [D * T, B, ...] -> [T, B, ...], with time and batch apart or as one dimension.
    """

    takes_time = True

    def __init__(self, layer: nn.Module, levels: int, largest: int) -> None:
        super().__init__()
        self.layer = layer
        self.levels = levels
        with torch.no_grad():
            w = layer.weight.double()
            # transposed convolutions have their output channels second, within groups
            dims = (0, 2, 3) if isinstance(layer, nn.ConvTranspose2d) else tuple(range(1, w.dim()))
            terms = w.abs().sum(dims).max() / w.abs().max() if w.any() else 1.0
            layer.weight.copy_(on_grid(w, largest * float(terms)))

    def forward(self, x: Tensor) -> Tensor:
        m, w = self.layer, self.layer.weight.double()
        y = x.double()
        if isinstance(m, nn.Linear):
            y = F.linear(y, w)
        else:
            y = fold(y) if x.dim() == 5 else y
            if isinstance(m, nn.ConvTranspose2d):
                y = F.conv_transpose2d(y, w, None, m.stride, m.padding, m.output_padding, m.groups, m.dilation)
            else:
                y = F.conv2d(y, w, None, m.stride, m.padding, m.dilation, m.groups)
        if self.levels > 1:
            y = y.unflatten(0, (self.levels, y.shape[0] // self.levels)).sum(0)
        if m.bias is not None:
            y = y + (m.bias.double() if isinstance(m, nn.Linear) else m.bias.double().view(-1, 1, 1))
        if x.dim() == 5 and not isinstance(m, nn.Linear):
            y = y.unflatten(0, (x.shape[0] // self.levels, x.shape[1]))
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f'levels={self.levels}'


class PlainPool(nn.AvgPool2d):
    """AvgPool2d with a divisor of its own, which ``torch.onnx`` of torch 2.14 drops without a word."""

    def __init__(self, pool: nn.AvgPool2d) -> None:
        super().__init__(pool.kernel_size, pool.stride, pool.padding)
        self.divisor = pool.divisor_override

    def forward(self, input: Tensor) -> Tensor:
        # sums of counts, which no division rounds
        ones = input.new_ones(input.shape[-3], 1, *nn.modules.utils._pair(self.kernel_size))
        total = nn.functional.conv2d(input, ones, None, self.stride, self.padding, groups=len(ones))
        return total if self.divisor == 1 else total / self.divisor
