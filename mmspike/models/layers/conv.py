"""Linear maps of spiking blocks on [T, B, C, H, W]: convolution + norm, and the re-parameterisable stack RepConv."""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .temporal import fold, unfold


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """A norm layer for [T*B, C, H, W], its statistics taken over T and B alike."""
    return build_norm_layer(norm_cfg, channels)[1]


class ConvNorm(nn.Module):
    """Convolution and norm: what stands between two neurons.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, groups, bias: As ``nn.Conv2d``; padding defaults to 'same'
            size at stride 1 (``kernel_size // 2``).
        norm_cfg: Norm of the output.

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
        groups: int = 1,
        bias: bool = False,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.norm = build_norm(norm_cfg or dict(type='BN'), out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return unfold(self.norm(self.conv(fold(x))), x.shape[0])


class RepConv(nn.Module):
    """1x1 conv - norm - 3x3 depthwise - 1x1 conv - norm: linear from end to end, so that it merges into one 3x3 convolution.

    The depthwise convolution is padded with what the first norm gives for a zero input. That makes the merged convolution
    zero-padded (Spike-driven Transformer V2, arXiv 2404.03663, RepConv).

    Shape:
        [T, B, C, H, W] -> [T, B, C, H, W].
    """

    def __init__(self, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = build_norm(norm_cfg, channels)
        if not isinstance(self.norm1, _BatchNorm):
            raise ValueError(f'RepConv needs a batch norm (BN, SyncBN), which merges into its convolutions, got {norm_cfg}')
        self.dwconv = nn.Conv2d(channels, channels, 3, groups=channels, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = build_norm(norm_cfg, channels)

    @torch.no_grad()
    def border(self) -> Tensor:
        """What the first norm gives for a zero input [C].

        It comes from the running statistics in training, too, and gets no gradient, as in the published code.
        """
        n = self.norm1
        return n.bias - n.running_mean * n.weight / torch.sqrt(n.running_var + n.eps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(fold(x)))
        # Padding with a constant c is zero padding of (y - c), plus c times the sum of the kernel everywhere.
        c = self.border()
        w = self.dwconv.weight
        y = F.conv2d(y - c.view(1, -1, 1, 1).to(y.dtype), w, c * w.sum((1, 2, 3)), padding=1, groups=w.shape[0])
        return unfold(self.norm2(self.conv2(y)), x.shape[0])


class RepConvNorm(nn.Module):
    """RepConv and one more norm, as every branch of a spike-driven self-attention has it."""

    def __init__(self, dim: int, norm_cfg: dict) -> None:
        super().__init__()
        self.rep = RepConv(dim, norm_cfg)
        self.norm = build_norm(norm_cfg, dim)

    def forward(self, x: Tensor) -> Tensor:
        return unfold(self.norm(fold(self.rep(x))), x.shape[0])
