"""RepConv, the stack of linear layers that becomes one convolution, and the norms that all layers have."""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.kernels.layout import fold, unfold


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """A norm layer for [T*B, C, ...], its statistics taken over T and B alike."""
    norm = build_norm_layer(norm_cfg, channels)[1]
    norm.takes_time = False  # of whatever class it is
    return norm


class _Merging(nn.Module):
    """Layers that merge into one convolution, behind a norm whose output is padded with what it gives for zero."""

    takes_time = True
    merges_layers = True
    norm1: _BatchNorm

    @torch.no_grad()
    def border(self) -> Tensor:
        """The output of the first norm for a zero input [C].

        It comes from the running statistics in training, too, and gets no gradient, as in the published code.
        """
        norm = self.norm1
        return norm.bias - norm.running_mean * norm.weight / torch.sqrt(norm.running_var + norm.eps)


class RepConv(_Merging):
    """1x1 conv - norm - 3x3 depthwise - 1x1 conv - norm: linear from end to end, so that it merges into one 3x3 convolution.

    The depthwise convolution is padded with what the first norm gives for a zero input. That makes the merged convolution
    zero-padded (Spike-driven Transformer V2, arXiv 2404.03663, RepConv).

    Args:
        channels: Of the input.
        norm_cfg: A batch norm.
        out_channels: Of the output; None: ``channels``.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H, W].

    Example:
        >>> import torch
        >>> from mmspike.models.layers import RepConv
        >>> RepConv(8, dict(type='BN'))(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    def __init__(self, channels: int, norm_cfg: dict, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = build_batch_norm(norm_cfg, channels, type(self).__name__)
        self.dwconv = nn.Conv2d(channels, channels, 3, groups=channels, bias=False)
        self.conv2 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.norm2 = build_norm(norm_cfg, out_channels)

    def bias(self) -> Tensor:
        """The addition of the border to the output of the depthwise convolution [C]."""
        # Padding with a constant c is zero padding of (y - c), plus c times the sum of the kernel everywhere.
        return self.border() * self.dwconv.weight.sum((1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(fold(x)))
        y = F.conv2d(
            y - self.border().view(-1, 1, 1).to(y.dtype), self.dwconv.weight, self.bias(), padding=1, groups=y.shape[1]
        )
        return unfold(self.norm2(self.conv2(y)), x.shape[0])


class NormFirstRepConv(_Merging):
    """norm - 1x1 conv - 3x3 depthwise: linear from end to end, so that it merges into one 3x3 convolution.

    What the norm gives for a zero input surrounds its output, so that the merged convolution is zero-padded, as in
    :class:`RepConv` (SpikeYOLO, arXiv 2407.20708, the end of its separable convolution).

    Args:
        in_channels, out_channels: Of input and output.
        norm_cfg: A batch norm.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H, W].
    """

    def __init__(self, in_channels: int, out_channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.norm1 = build_batch_norm(norm_cfg, in_channels, type(self).__name__)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.dwconv = nn.Conv2d(out_channels, out_channels, 3, groups=out_channels, bias=False)

    def bias(self) -> Tensor:
        """The addition of the border to the output of the depthwise convolution [C']."""
        return self.conv1.weight.flatten(1) @ self.border() * self.dwconv.weight.sum((1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(fold(x))
        y = self.conv1(y - self.border().view(-1, 1, 1).to(y.dtype))
        y = F.conv2d(y, self.dwconv.weight, self.bias().to(y.dtype), padding=1, groups=y.shape[1])
        return unfold(y, x.shape[0])


#: rows that merge into one convolution, with a norm whose output is padded with what it gives for zero
MERGING = (RepConv, NormFirstRepConv)


def build_batch_norm(norm_cfg: dict, channels: int, name: str) -> _BatchNorm:
    """As :func:`build_norm`, of the kind that merges into convolutions."""
    norm = build_norm(norm_cfg, channels)
    if not isinstance(norm, _BatchNorm):
        raise ValueError(f'{name} needs a batch norm (BN, SyncBN), which merges into its convolutions, got {norm_cfg}')
    return norm
