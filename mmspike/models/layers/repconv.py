"""RepConv, the stack of linear layers that becomes one convolution, and the norms that all layers have."""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .temporal import fold, unfold


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """A norm layer for [T*B, C, ...], its statistics taken over T and B alike."""
    norm = build_norm_layer(norm_cfg, channels)[1]
    norm.takes_time = False  # of whatever class it is
    return norm


class RepConv(nn.Module):
    """1x1 conv - norm - 3x3 depthwise - 1x1 conv - norm: linear from end to end, so that it merges into one 3x3 convolution.

    The depthwise convolution is padded with what the first norm gives for a zero input. That makes the merged convolution
    zero-padded (Spike-driven Transformer V2, arXiv 2404.03663, RepConv).

    Shape:
        [T, B, C, H, W] -> [T, B, C, H, W].
    """

    takes_time = True

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
