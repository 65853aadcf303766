"""Blocks on membrane shortcuts that the spike-driven transformers V2 and V3 share."""

from torch import Tensor, nn

from mmspike.models.neurons import build_neuron

from .chain import chain
from .conv import ConvNorm
from .temporal import DropPath


class Downsample(nn.Module):
    """N - 3x3 convolution - BN; the first of a network is 7x7 and has no neuron, since it sees the image.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H / stride, W / stride], rounded up.
    """

    def __init__(self, in_dim: int, dim: int, stride: int, neuron: dict | None, norm_cfg: dict) -> None:
        super().__init__()
        self.neuron = nn.Identity() if neuron is None else build_neuron(neuron)
        self.conv = ConvNorm(in_dim, dim, 7 if neuron is None else 3, stride, bias=True, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.neuron, self.conv)


class ConvBlock(nn.Module):
    """x + SepConv(x), then x + (N - 3x3 - BN - N - 3x3 - BN)(x) with four times the width inside.

    Args:
        sepconv: The architecture's own separable convolution.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, sepconv: nn.Module, neuron: dict, norm_cfg: dict, drop_path: float) -> None:
        super().__init__()
        self.sepconv = sepconv
        self.neuron1 = build_neuron(neuron)
        self.conv1 = ConvNorm(dim, 4 * dim, 3, norm_cfg=norm_cfg)
        self.neuron2 = build_neuron(neuron)
        self.conv2 = ConvNorm(4 * dim, dim, 3, norm_cfg=norm_cfg)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.sepconv(x))
        return x + self.drop_path(chain(x, self.neuron1, self.conv1, self.neuron2, self.conv2))


class MLP(nn.Module):
    """N - 1x1 (d to r d) - BN - N - 1x1 (r d to d) - BN.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, ratio: float, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.neuron1 = build_neuron(neuron)
        self.fc1 = ConvNorm(dim, hidden, bias=True, norm_cfg=norm_cfg)
        self.neuron2 = build_neuron(neuron)
        self.fc2 = ConvNorm(hidden, dim, bias=True, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.neuron1, self.fc1, self.neuron2, self.fc2)
