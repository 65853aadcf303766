"""Weights of spiking blocks with what stands before and behind them, each a :class:`Chain`."""

from torch import nn

from mmspike.models.neurons import build_neuron

from .chain import Chain
from .low_bit import bits_of, few_bits
from .repconv import RepConv, build_norm


class ConvNorm(Chain):
    """Convolution and norm: what stands between two neurons.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, groups, bias: As ``nn.Conv2d``; padding defaults to 'same'
            size at stride 1 (``kernel_size // 2``).
        norm_cfg: Norm of the output.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H', W'].

    Example:
        >>> import torch
        >>> from mmspike.models.layers import ConvNorm
        >>> ConvNorm(8, 16, 3, stride=2)(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 16, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
        norm_cfg: dict | None = None,
    ) -> None:
        padding = kernel_size // 2 if padding is None else padding
        super().__init__(
            conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias),
            norm=build_norm(norm_cfg or dict(type='BN'), out_channels),
        )


class RepConvNorm(Chain):
    """RepConv and one more norm, as every branch of a spike-driven self-attention has it.

    Args:
        dim: Channels.
        norm_cfg: A batch norm.
        out_dim: Channels of the output; None: ``dim``.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import RepConvNorm
        >>> RepConvNorm(8, dict(type='BN'))(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    def __init__(self, dim: int, norm_cfg: dict, out_dim: int | None = None) -> None:
        super().__init__(rep=RepConv(dim, norm_cfg, out_dim), norm=build_norm(norm_cfg, out_dim or dim))


def _norm(norm_cfg: dict | None, channels: int) -> nn.Module:
    return build_norm(norm_cfg, channels) if norm_cfg else nn.Identity()


class SpikingConv(Chain):
    """Neuron - convolution - norm: membrane in, membrane out, and only spikes reach the weights.

    Args:
        in_channels, out_channels, kernel_size, stride, dilation, groups: As ``nn.Conv2d``.
        padding: As ``nn.Conv2d``; the default keeps the size at stride 1.
        neuron: Neuron config.
        norm_cfg: Norm of the output, or None.
        bias: By default the convolution has one where no norm follows.
        weight_bits: Bits of a weight, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``; None: all.
        binary: Weights of one bit, see :func:`mmspike.models.layers.binary_weight`.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H', W'].

    Example:
        >>> import torch
        >>> from mmspike.models.layers import SpikingConv
        >>> SpikingConv(8, 16, 3, neuron=dict(type='LIF'), norm_cfg=dict(type='BN'))(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 16, 10, 10])
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
        weight_bits: int | None = None,
    ) -> None:
        padding = dilation * (kernel_size - 1) // 2 if padding is None else padding
        bias = norm_cfg is None if bias is None else bias
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        super().__init__(
            neuron=build_neuron(neuron),
            conv=few_bits(conv, bits_of(binary, weight_bits)),
            norm=_norm(norm_cfg, out_channels),
        )


class SpikingConvTranspose(Chain):
    """Neuron - transposed convolution - norm: membrane in, ``stride`` times enlarged membrane out.

    Args:
        in_channels, out_channels, kernel_size, stride, padding: As ``nn.ConvTranspose2d``.
        neuron: Neuron config.
        norm_cfg: Norm of the output, or None: a bias instead.
        weight_bits: Bits of a weight, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``; None: all.
        binary: Weights of one bit, see :func:`mmspike.models.layers.binary_weight`.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H', W'], H' = (H - 1) * stride - 2 * padding + kernel_size.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import SpikingConvTranspose
        >>> SpikingConvTranspose(8, 16, 2, 2, neuron=dict(type='LIF'))(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 16, 20, 20])
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
        weight_bits: int | None = None,
    ) -> None:
        conv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, stride, padding, bias=norm_cfg is None)
        super().__init__(
            neuron=build_neuron(neuron),
            conv=few_bits(conv, bits_of(binary, weight_bits)),
            norm=_norm(norm_cfg, out_channels),
        )


class SpikingLinear(Chain):
    """Neuron - linear - norm: membrane in, membrane out, and only spikes reach the weights.

    Args:
        in_features, out_features: As ``nn.Linear``.
        neuron: Neuron config.
        norm_cfg: Norm of the output [T*N, C'], such as ``dict(type='BN1d')``, or None: a bias instead.
        weight_bits: Bits of a weight, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``; None: all.
        binary: Weights of one bit, see :func:`mmspike.models.layers.binary_weight`.

    Shape:
        [T, N, C] -> [T, N, C'].

    Example:
        >>> import torch
        >>> from mmspike.models.layers import SpikingLinear
        >>> SpikingLinear(8, 16, neuron=dict(type='LIF'))(torch.randn(4, 2, 8)).shape
        torch.Size([4, 2, 16])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        neuron: dict,
        norm_cfg: dict | None = None,
        binary: bool = False,
        weight_bits: int | None = None,
    ) -> None:
        super().__init__(
            neuron=build_neuron(neuron),
            fc=few_bits(nn.Linear(in_features, out_features, bias=norm_cfg is None), bits_of(binary, weight_bits)),
            norm=_norm(norm_cfg, out_features),
        )
