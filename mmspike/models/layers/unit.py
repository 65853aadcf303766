"""What necks and heads are made of: a neuron and the weights that read its spikes, on [T, B, …]."""

from torch import Tensor, nn

from mmspike.models.neurons import build_neuron

from .binary import BINARY
from .conv import build_norm
from .temporal import fold, unfold


def _kind(plain: type[nn.Module], binary: bool) -> type[nn.Module]:
    return BINARY[plain] if binary else plain


class SpikingConv(nn.Module):
    """Neuron - convolution - norm: membrane in, membrane out, and only spikes reach the weights.

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups: As ``nn.Conv2d``.
        padding: As ``nn.Conv2d``; the default keeps the size at stride 1.
        neuron: Neuron config.
        norm_cfg: Norm of the output, or None.
        bias: By default the convolution has one where no norm follows.
        binary: Weights of one bit, see :func:`mmspike.models.layers.binary_weight`.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H', W'].
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        *,
        neuron: dict,
        norm_cfg: dict | None = None,
        bias: bool | None = None,
        binary: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size - 1) // 2 if padding is None else padding
        bias = norm_cfg is None if bias is None else bias
        self.neuron = build_neuron(neuron)
        conv = _kind(nn.Conv2d, binary)
        self.conv = conv(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.norm = build_norm(norm_cfg, out_channels) if norm_cfg else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return unfold(self.norm(self.conv(fold(self.neuron(x)))), x.shape[0])


class SpikingConvTranspose(nn.Module):
    """Neuron - transposed convolution - norm: membrane in, ``stride`` times enlarged membrane out.

    Args:
        in_channels, out_channels, kernel_size, stride, padding: As ``nn.ConvTranspose2d``.
        neuron: Neuron config.
        norm_cfg: Norm of the output, or None: a bias instead.
        binary: Weights of one bit, see :func:`mmspike.models.layers.binary_weight`.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H', W'], H' = (H - 1) * stride - 2 * padding + kernel_size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        padding: int = 0,
        *,
        neuron: dict,
        norm_cfg: dict | None = None,
        binary: bool = False,
    ) -> None:
        super().__init__()
        self.neuron = build_neuron(neuron)
        conv = _kind(nn.ConvTranspose2d, binary)
        self.conv = conv(in_channels, out_channels, kernel_size, stride, padding, bias=norm_cfg is None)
        self.norm = build_norm(norm_cfg, out_channels) if norm_cfg else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return unfold(self.norm(self.conv(fold(self.neuron(x)))), x.shape[0])


class SpikingLinear(nn.Module):
    """Neuron - linear - norm: membrane in, membrane out, and only spikes reach the weights.

    Args:
        in_features, out_features: As ``nn.Linear``.
        neuron: Neuron config.
        norm_cfg: Norm of the output [T*N, C'], such as ``dict(type='BN1d')``, or None: a bias instead.
        binary: Weights of one bit, see :func:`mmspike.models.layers.binary_weight`.

    Shape:
        [T, N, C] -> [T, N, C'].
    """

    def __init__(
        self, in_features: int, out_features: int, *, neuron: dict, norm_cfg: dict | None = None, binary: bool = False
    ) -> None:
        super().__init__()
        self.neuron = build_neuron(neuron)
        self.fc = _kind(nn.Linear, binary)(in_features, out_features, bias=norm_cfg is None)
        self.norm = build_norm(norm_cfg, out_features) if norm_cfg else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return unfold(self.norm(self.fc(fold(self.neuron(x)))), x.shape[0])
