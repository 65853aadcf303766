"""Weights of one bit: a sign, and a scale for each output channel."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def binary_weight(weight: Tensor, dim: int = 0) -> Tensor:
    """The weight with two values for each output channel, +a and -a, and a straight-through gradient.

    With c the weight minus its mean over an output channel, it is a * sign(c), a the mean of |c|; a sign of 0 counts as +. The
    gradient passes as if it were c. Centred signs as in BESTformer (IJCAI 2025, arXiv 2501.05904), which leaves the scale to
    the batch norm behind; the scale is that of XNOR-Net (arXiv 1603.05279).

    Args:
        weight: Of a convolution or a linear layer.
        dim: Its dimension of output channels.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import binary_weight
        >>> binary_weight(torch.tensor([[1.0, 2.0, 6.0]]))
        tensor([[-2., -2.,  2.]])
    """
    others = [i for i in range(weight.dim()) if i != dim]
    centred = weight - weight.mean(others, keepdim=True)
    value = centred.detach()
    scale = value.abs().mean(others, keepdim=True)
    return torch.where(value >= 0, scale, -scale) + (centred - value)


class BinaryConv2d(nn.Conv2d):
    """``nn.Conv2d`` that computes with :func:`binary_weight` of its weight; the weight itself is trained and stored."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, binary_weight(self.weight), self.bias)


class BinaryConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` that computes with :func:`binary_weight` of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(
            x,
            binary_weight(self.weight, 1),
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class BinaryLinear(nn.Linear):
    """``nn.Linear`` that computes with :func:`binary_weight` of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, binary_weight(self.weight), self.bias)


BINARY: dict[type, Any] = {nn.Conv2d: BinaryConv2d, nn.ConvTranspose2d: BinaryConvTranspose2d, nn.Linear: BinaryLinear}


def is_binary(module: nn.Module) -> bool:
    """True if a layer computes with weights of one bit."""
    return isinstance(module, tuple(BINARY.values()))


def binarise(model: nn.Module) -> None:
    """Let the convolutions and linear layers in ``model`` compute with weights of one bit, in place.

    Names and values in the state dict stay, so that a network with full weights can be loaded and trained on. Depthwise
    convolutions, which have few weights, keep theirs.

    Example:
        >>> from torch import nn
        >>> from mmspike.models.layers import binarise
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8))
        >>> binarise(model)
        >>> [type(m).__name__ for m in model]
        ['BinaryConv2d', 'Conv2d']
    """
    for module in model.modules():
        depthwise = getattr(module, 'groups', 1) > 1 and module.groups == module.in_channels
        if type(module) in BINARY and not depthwise:
            module.__class__ = BINARY[type(module)]


@torch.no_grad()
def write_binary_weights(model: nn.Module) -> None:
    """Make the layers of one-bit weights ordinary ones whose weights have those two values per channel, in place.

    Example:
        >>> from torch import nn
        >>> from mmspike.models.layers import binarise, write_binary_weights
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3))
        >>> binarise(model)
        >>> write_binary_weights(model)
        >>> type(model[0]).__name__, model[0].weight[0].unique().numel()
        ('Conv2d', 2)
    """
    for module in model.modules():
        for plain, binary in BINARY.items():
            if type(module) is binary:
                module.weight.copy_(binary_weight(module.weight, int(plain is nn.ConvTranspose2d)))
                module.__class__ = plain
