"""Weights of a few bits: whole numbers times a step that is learned for each output channel."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import wrappers
from torch import Tensor, nn

from .binary import BINARY, binarise, binary_weight, is_binary, write_binary_weights

BITS = range(2, 9)


def whole_range(bits: int) -> tuple[int, int]:
    """The smallest and the largest whole number of ``bits`` bits, with sign.

    Of 8 bits -127 to 127: a norm of negative weight turns the signs of a folded channel, and 128 does not fit into int8.
    """
    high = 2 ** (bits - 1) - 1
    return (-high if bits == 8 else -high - 1), high


def rounded_weight(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """The weight as whole numbers times a step: round(clip(weight / step, low, high)) * step.

    The gradient passes to the weight where it is not clipped, and to the step as learned step size quantisation has it (LSQ,
    arXiv 1902.08153, section 2.1), scaled by 1 / sqrt(weights of a step * high).

    Args:
        weight: Of a convolution or a linear layer.
        step: Positive, of a shape that is broadcast to the weight's.
        bits: 2 to 8: from -2 to 1, -8 to 7 and the like, see :func:`whole_range`; of 8 bits from -127 to 127.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import rounded_weight
        >>> rounded_weight(torch.tensor([[-9.0, 0.6, 1.2, 4.0]]), torch.tensor([[1.0]]), 2)
        tensor([[-2.,  1.,  1.,  1.]])
    """
    low, high = whole_range(bits)
    share = (weight.numel() / step.numel() * high) ** -0.5
    step = step.detach() + share * (step - step.detach())
    numbers = (weight / step).clamp(low, high)
    value = numbers.detach()
    return (value.round() + (numbers - value)) * step


@torch.no_grad()
def best_step(weight: Tensor, bits: int, dim: int = 0, candidates: int = 50) -> Tensor:
    """For each index of ``dim`` the step with the smallest squared error, among fractions of the one that reaches all weights.

    Returns:
        [weight.shape[dim]], positive.
    """
    low, high = whole_range(bits)
    rows = weight.movedim(dim, 0).flatten(1)
    largest = rows.abs().amax(1) / high
    largest = torch.where(largest > 0, largest, 1.0)
    best, error = largest, torch.full_like(largest, float('inf'))
    for fraction in torch.linspace(1, 1 / candidates, candidates).tolist():
        step = fraction * largest
        numbers = (rows / step[:, None]).round().clamp(low, high)
        found = (numbers * step[:, None] - rows).square().sum(1)
        best, error = torch.where(found < error, step, best), torch.minimum(found, error)
    return best


class LowBit(nn.Module):
    """What the layers below have in common: the weight is trained and stored as it is, and computed with rounded.

    Attributes:
        bits: Of a weight.
        weight_step: [C'], a parameter: the step of each output channel. It is 0 until the first forward, which takes
            :func:`best_step`; so a checkpoint without steps loads.
    """

    bits: int
    weight_step: nn.Parameter
    channel_dim = 0
    _new = True

    def used_weight(self) -> Tensor:
        """The weight that this layer computes with."""
        if self._new:
            self._begin()
        shape = [-1 if i == self.channel_dim else 1 for i in range(self.weight.dim())]
        return rounded_weight(self.weight, self.weight_step.abs().clamp(min=1e-12).view(shape), self.bits)

    @torch.no_grad()
    def _begin(self) -> None:
        if not self.weight_step.any():
            self.weight_step.copy_(best_step(self.weight, self.bits, self.channel_dim))
        self._new = False

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        if f'{prefix}weight' in state_dict:
            state_dict.setdefault(f'{prefix}weight_step', torch.zeros_like(self.weight_step))
        self._new = True
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, bits={self.bits}'


class LowBitConv2d(LowBit, nn.Conv2d):
    """``nn.Conv2d`` that computes with :func:`rounded_weight`."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.used_weight(), self.bias)


class LowBitConvTranspose2d(LowBit, nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` that computes with :func:`rounded_weight`; groups share the steps of their channels."""

    channel_dim = 1

    def forward(self, x: Tensor) -> Tensor:
        weight = self.used_weight()
        return F.conv_transpose2d(
            x, weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class LowBitLinear(LowBit, nn.Linear):
    """``nn.Linear`` that computes with :func:`rounded_weight`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.used_weight(), self.bias)


LOW_BIT: dict[type, Any] = {
    nn.Conv2d: LowBitConv2d,
    nn.ConvTranspose2d: LowBitConvTranspose2d,
    nn.Linear: LowBitLinear,
    # mmcv's own differ from PyTorch's for empty inputs alone
    wrappers.Conv2d: LowBitConv2d,
    wrappers.ConvTranspose2d: LowBitConvTranspose2d,
    wrappers.Linear: LowBitLinear,
}


def few_bits(layer: nn.Module, bits: int | None) -> nn.Module:
    """The same layer with weights of ``bits`` bits, in place: 2 to 8, or 1, see :func:`mmspike.models.layers.binary_weight`.

    Raises:
        ValueError: Another number.
    """
    if bits is None:
        return layer
    if isinstance(bits, bool) or bits not in (1, *BITS):
        raise ValueError(f'weight_bits must be None, 1 or 2 to 8, got {bits!r}')
    if bits == 1:
        layer.__class__ = BINARY[type(layer)]
        return layer
    low: Any = layer
    low.__class__ = LOW_BIT[type(layer)]
    low.bits = bits
    low.weight_step = nn.Parameter(low.weight.new_zeros(low.weight.shape[low.channel_dim]))
    return low


def bits_of(binary: bool, weight_bits: int | None) -> int | None:
    """Bits of a weight of a layer with both options.

    Raises:
        ValueError: They say different things.
    """
    if binary and weight_bits not in (None, 1):
        raise ValueError(f'binary=True is one bit a weight, and weight_bits={weight_bits}: give one of them')
    return 1 if binary else weight_bits


def weight_bits(layer: nn.Module) -> int | None:
    """Bits of the weights that a layer computes with; None: full precision."""
    return 1 if is_binary(layer) else getattr(layer, 'bits', None) if isinstance(layer, LowBit) else None


def used_weight(layer: nn.Module) -> Tensor | None:
    """The weight that a layer of few bits computes with; None for any other, which computes with its own."""
    if isinstance(layer, LowBit):
        return layer.used_weight()
    return binary_weight(layer.weight, int(isinstance(layer, nn.ConvTranspose2d))) if is_binary(layer) else None


def set_weight_bits(model: nn.Module, bits: int, keep: Iterable[str] = ()) -> list[str]:
    """Let the convolutions and linear layers in ``model`` compute with weights of few bits, in place.

    A checkpoint of full weights can be loaded before or afterwards, and training goes on: the steps learn with the weights.
    In the state dict a layer has its weight, in full precision, and of 2 bits and more its ``weight_step``.

    Args:
        bits: 2 to 8; 1: :func:`mmspike.models.layers.binarise`, which leaves depthwise convolutions out.
        keep: Names of layers that stay as they are, or of modules with such layers.

    Returns:
        Names of the layers that were changed.

    Raises:
        ValueError: A module merges several layers into one for inference, whose weights would have more bits; or a name is
            not there.

    Example:
        >>> from torch import nn
        >>> from mmspike.models.layers import set_weight_bits
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        >>> set_weight_bits(model, 4, keep=['0'])
        ['2']
    """
    names, keep = [name for name, _ in model.named_modules()], list(keep)
    if unknown := [name for name in keep if name not in names]:
        raise ValueError(f'keep names {unknown}, which the network does not have')
    changed = []
    for name, module in model.named_modules():
        if any(name == kept or name.startswith(f'{kept}.') for kept in keep):
            continue
        if getattr(module, 'merges_layers', False):
            raise ValueError(
                f'{name or type(module).__name__} ({type(module).__name__}) merges layers into one for inference, which leaves '
                'weights of more bits: keep it as it is, or take another backbone'
            )
        if bits == 1 and type(module) in BINARY:
            binarise(module)
            changed += [name] if is_binary(module) else []
        elif bits != 1 and type(module) in LOW_BIT:
            few_bits(module, bits)
            changed.append(name)
    return changed


@torch.no_grad()
def write_low_bit_weights(model: nn.Module) -> None:
    """Make the layers of few bits ordinary ones with the weights that they computed with, in place.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmspike.models.layers import set_weight_bits, write_low_bit_weights
        >>> model = nn.Sequential(nn.Linear(50, 1))
        >>> changed = set_weight_bits(model, 2)
        >>> write_low_bit_weights(model)
        >>> type(model[0]).__name__, model[0].weight.unique().numel() <= 4
        ('Linear', True)
    """
    write_binary_weights(model)
    for module in model.modules():
        for plain in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
            if type(module) is LOW_BIT[plain]:
                module.weight.copy_(module.used_weight())
                del module.weight_step, module.bits
                module.__class__ = plain
