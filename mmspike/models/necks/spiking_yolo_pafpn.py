"""SpikeYOLO's path aggregation pyramid."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmspike.models.backbones.spiking_yolo import NORM, rep_block, wide_block
from mmspike.models.layers import SpikingConv, resized
from mmspike.registry import MODELS


@MODELS.register_module()
class SpikingYOLOPAFPN(BaseModule):
    """A pyramid that goes down to the finest scale and up again, as SpikeYOLO (arXiv 2407.20708) has it.

    Membranes are enlarged (nearest) and concatenated; every convolution reads them through a neuron, so that weights see
    spikes. On the way down each scale is N - 1x1 - BN of what is there, on the way up a block of its own.

    Args:
        in_channels: Channels of the three input features, finest first; each has half the size of the one before, rounded up.
        channels: Width c of the finest output; the others have 2 c and 4 c.
        mlp_ratio: Width inside the last block over its channels: 1 in the sizes n and s, 2 in m and l.
        neuron: Neuron config, by default I-LIF with D = 4.
        norm_cfg: Norm config, of a batch norm.

    Attributes:
        out_channels: (c, 2 c, 4 c).

    Shape:
        Three membranes [T, B, C_i, H_i, W_i] -> three membranes [T, B, C'_i, H_i, W_i].

    Raises:
        ValueError: The inputs are not three, not [T, B, C, H, W], or one has not half the size of the one before.

    Example:
        >>> import torch
        >>> from mmspike.models import SpikingYOLOPAFPN
        >>> neck = SpikingYOLOPAFPN([8, 16, 32], 8)
        >>> features = [torch.randn(1, 2, c, size, size) for c, size in ((8, 16), (16, 8), (32, 4))]
        >>> [tuple(f.shape) for f in neck(features)]
        [(1, 2, 8, 16, 16), (1, 2, 16, 8, 8), (1, 2, 32, 4, 4)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        mlp_ratio: float = 1,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        in_channels = list(in_channels)
        if len(in_channels) != 3:
            raise ValueError(f'in_channels needs three entries, one a scale, got {in_channels}')
        self.in_channels = in_channels
        self.out_channels = (channels, 2 * channels, 4 * channels)
        shared: dict = dict(neuron=neuron or dict(type='ILIF', levels=4), norm_cfg=norm_cfg or NORM)
        wide, (fine, middle, coarse) = 2 * channels, in_channels
        self.reduce5 = SpikingConv(coarse, wide, **shared)
        self.top_down4 = rep_block(wide, 3, **shared)
        self.reduce4 = SpikingConv(wide + middle, channels, **shared)
        self.top_down3 = wide_block(channels, **shared)
        self.reduce3 = SpikingConv(channels + fine, channels, **shared)
        self.out3 = wide_block(channels, **shared)
        self.down3 = SpikingConv(channels, channels, 3, 2, **shared)
        self.out4 = rep_block(2 * channels, 3, **shared)
        self.down4 = SpikingConv(2 * channels, wide, 3, 2, **shared)
        self.out5 = rep_block(2 * wide, mlp_ratio, **shared)

    def _check(self, feats: Sequence[Tensor]) -> None:
        if len(feats) != 3:
            raise ValueError(f'expected three features of {self.in_channels} channels, got {len(feats)}')
        for i, x in enumerate(feats):
            if x.dim() != 5:
                raise ValueError(
                    f'expected features [T, B, C, H, W], got shape {tuple(x.shape)}: set temporal_output="keep" in the backbone'
                )
            half = tuple(-(-n // 2) for n in feats[i - 1].shape[-2:])
            if i and x.shape[-2:] != half:
                raise ValueError(
                    f'feature {i} must have half the size of feature {i - 1}, {half}, got {tuple(x.shape[-2:])}: choose '
                    'out_indices of the backbone whose out_strides double, such as 8, 16, 32'
                )

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of the pyramid, see the class."""
        self._check(feats)
        fine, middle, coarse = feats
        top = self.reduce5(coarse)
        centre = self.reduce4(torch.cat([self.top_down4(resized(top, middle.shape[-2:])), middle], 2))
        out3 = self.out3(self.reduce3(torch.cat([self.top_down3(resized(centre, fine.shape[-2:])), fine], 2)))
        out4 = self.out4(torch.cat([self.down3(out3), centre], 2))
        return out3, out4, self.out5(torch.cat([self.down4(out4), top], 2))
