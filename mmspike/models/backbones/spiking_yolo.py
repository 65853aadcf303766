"""The backbone of SpikeYOLO (ECCV 2024, arXiv 2407.20708), convolutional throughout."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.kernels.recompute import Signal
from mmspike.models.layers import (
    Chain,
    ConvBlock,
    ConvNorm,
    Downsample,
    DropPath,
    NormFirstRepConv,
    RepConvNorm,
    Residual,
    SpikingConv,
    build_norm,
    walk,
)
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, resolve_arch

#: what all norms of the published networks have
NORM = dict(type='BN', eps=1e-3, momentum=0.03)


class SepConv(Chain):
    """N - 1x1 (d to 2d) - BN - N - 7x7 depthwise - BN - N - [BN - 1x1 (2d to d) - 3x3 depthwise] - BN.

    What is in brackets merges into one 3x3 convolution.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, neuron: dict, norm_cfg: dict) -> None:
        hidden = 2 * dim
        super().__init__(
            neuron1=build_neuron(neuron),
            pwconv1=ConvNorm(dim, hidden, norm_cfg=norm_cfg),
            neuron2=build_neuron(neuron),
            dwconv=ConvNorm(hidden, hidden, 7, groups=hidden, norm_cfg=norm_cfg),
            neuron3=build_neuron(neuron),
            rep=NormFirstRepConv(hidden, dim, norm_cfg),
            norm=build_norm(norm_cfg, dim),
        )


def wide_block(dim: int, neuron: dict, norm_cfg: dict, drop_path: float = 0.0) -> Residual:
    """x + SepConv(x), then x + (N - 3x3 (d to 4d) - BN - N - 3x3 (4d to d) - BN)(x), for high resolutions."""
    return ConvBlock(dim, SepConv(dim, neuron, norm_cfg), neuron, norm_cfg, drop_path)


def rep_block(dim: int, ratio: float, neuron: dict, norm_cfg: dict, drop_path: float = 0.0) -> Residual:
    """x + SepConv(x), then x + (N - RepConv (d to rd) - BN - N - RepConv (rd to d) - BN)(x), for low resolutions."""
    drop, hidden = DropPath(drop_path), int(ratio * dim)
    convs = dict(
        neuron1=build_neuron(neuron),
        rep1=RepConvNorm(dim, norm_cfg, hidden),
        neuron2=build_neuron(neuron),
        rep2=RepConvNorm(hidden, norm_cfg, dim),
    )
    return Residual(dict(sepconv=SepConv(dim, neuron, norm_cfg), drop_path=drop), dict(**convs, drop_path=drop))


class PadToMultiple(nn.Module):
    """Zeros below and right of [N, C, H, W] up to the next multiple of ``size``.

    The stem's convolution leaves out up to two rows of an image whose height is not a multiple of its stride.
    """

    takes_time = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        below, right = -height % self.size, -width % self.size
        return F.pad(x, (0, right, 0, below)) if below or right else x

    def extra_repr(self) -> str:
        return f'{self.size}'


class SpikingSPPF(nn.Module):
    """Spatial pyramid pooling: y0 = (N - 1x1 - BN)(x), then max-pools of 5x5 of it one behind the other; N - 1x1 - BN of all.

    The pools see membranes. Neurons behind them give the same as pools of spikes would, since both keep order.

    Shape:
        [T, B, C, H, W] in and out.
    """

    takes_time = True
    rows = (('conv1',), ('conv2',))

    def __init__(self, dim: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        hidden = dim // 2
        self.conv1 = SpikingConv(dim, hidden, neuron=neuron, norm_cfg=norm_cfg)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.conv2 = SpikingConv(4 * hidden, dim, neuron=neuron, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        signals = [walk([self.conv1], Signal(x))]
        for _ in range(3):
            signals.append(walk([self.pool], signals[-1]))
        return self.conv2(torch.cat([signal.x for signal in signals], 2))


def _settings(dims: Sequence[int], depths: Sequence[int]) -> dict:
    return dict(dims=tuple(dims), depths=tuple(depths), mlp_ratios=(3, 2))


@MODELS.register_module()
class SpikingYOLOBackbone(SpikingBackbone):
    """SpikeYOLO's backbone: four convolutional stages on membrane shortcuts, and pooling of a pyramid of windows.

    Stem: 7x7 stride 4 and blocks of 3x3 convolutions at width c1. Stages: such blocks at c2 (stride 8), blocks of
    re-parameterised convolutions at c3 (16) and c4 (32), the latter with :class:`SpikingSPPF` at its end. Each starts with
    N - 3x3 of stride 2 - BN.

    Args:
        arch: 'spikingyolo-n', '-s', '-m', '-l' (the prefix may be left out), or a dict with ``dims`` (c1 to c4) and optionally
            ``depths`` (blocks of stem and stages), ``mlp_ratios`` (widths inside the blocks at c3 and c4 over theirs).
        T: Time steps; 1 in the published models for images.
        in_channels: Channels of the input: 3 for images, 2 for event frames of two polarities.
        strides: Of the four downsampling convolutions; smaller ones suit small objects.
        neuron: Neuron config, by default I-LIF with D = 4 (section 3.2).
        norm_cfg: Norm config, of a batch norm.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        kwargs: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 8, 16, 32; 'stem' has stride 4.

    Example:
        >>> import torch
        >>> from mmspike.models import SpikingYOLOBackbone
        >>> backbone = SpikingYOLOBackbone(dict(dims=(8, 16, 32, 64)))
        >>> [tuple(level.shape) for level in backbone(torch.rand(2, 3, 64, 64))]
        [(2, 16, 8, 8), (2, 32, 4, 4), (2, 64, 2, 2)]
    """

    merges_layers = True
    arch_settings = {
        'spikingyolo-s': _settings((64, 128, 256, 512), (1, 2, 3, 1)),
        'spikingyolo-n': _settings((48, 96, 192, 384), (1, 2, 3, 1)),
        'spikingyolo-m': _settings((80, 160, 320, 640), (2, 3, 4, 2)),
        'spikingyolo-l': _settings((96, 192, 384, 768), (2, 3, 4, 2)),
    }

    def __init__(
        self,
        arch: str | dict = 'spikingyolo-s',
        T: int = 1,
        in_channels: int = 3,
        strides: Sequence[int] = (4, 2, 2, 2),
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch = resolve_arch(arch, self.arch_settings, type(self).__name__)
        if len(strides) != 4:
            raise ValueError(f'strides needs 4 entries, one a downsampling convolution, got {strides}')
        neuron = neuron or dict(type='ILIF', levels=4)
        norm_cfg = norm_cfg or NORM
        rates = iter(np.linspace(0, drop_path_rate, sum(arch['depths'])).tolist())
        ratios = (None, None, *arch['mlp_ratios'])

        def blocks(dim: int, depth: int, ratio: float | None) -> list[nn.Module]:
            if ratio is None:
                return [wide_block(dim, neuron, norm_cfg, next(rates)) for _ in range(depth)]
            return [rep_block(dim, ratio, neuron, norm_cfg, next(rates)) for _ in range(depth)]

        parts = [blocks(*sizes) for sizes in zip(arch['dims'], arch['depths'], ratios, strict=True)]
        dims, stride = arch['dims'], strides[0]
        # the least padding that leaves no row out, which is the published one at stride 4
        conv = ConvNorm(in_channels, dims[0], 7, stride, 2 if stride > 2 else 3, bias=True, norm_cfg=norm_cfg)
        first = Chain(pad=PadToMultiple(stride), conv=conv)
        downs = [Downsample(*pair, s, neuron, norm_cfg) for pair, s in zip(pairwise(dims), strides[1:], strict=True)]
        stages = [[down, *part] for down, part in zip(downs, parts[1:], strict=True)]
        stages[-1].append(SpikingSPPF(dims[-1], neuron, norm_cfg))
        stem = nn.Sequential(first, *parts[0])
        self._register_stages(stem, [nn.Sequential(*stage) for stage in stages], dims, list(accumulate(strides, mul)))
