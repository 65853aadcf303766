"""Spiking feature pyramid network."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmspike.models.layers import SpikingConv, bits_of, resized
from mmspike.registry import MODELS


@MODELS.register_module()
class SpikingFPN(BaseModule):
    """Feature pyramid (arXiv 1612.03144) in which every convolution reads spikes and the top-down sum is one of membranes.

    Per scale N - 1x1 lateral, nearest upsampling of the coarser membrane added to it, then N - 3x3 output. Scales beyond the
    inputs are added on top, each of twice the stride of the one below.

    Args:
        in_channels: Channels of the input features, finest first.
        out_channels: Channels of every output.
        num_outs: Number of scales of the pyramid, at least that of the inputs from ``start_level`` on.
        start_level: First input feature that is used.
        extra_levels: 'conv' makes a further scale by N - 3x3 of stride 2 on the one below, 'pool' takes every second pixel
            of the one below (no weights).
        norm_cfg: Norm after each convolution (``dict(type='BN')``; segmentation, and detection from scratch), or None: bias
            instead (the published detectors).
        neuron: Neuron config.
        binary: Weights of one bit (BESTformer), see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of a weight, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``.

    Shape:
        A tuple of [T, B, C_i, H_i, W_i], membranes -> a tuple of ``num_outs`` membranes [T, B, C, H_i, W_i].

    Raises:
        ValueError: The inputs are not as many as ``in_channels``, or not [T, B, C, H, W].

    Example:
        >>> import torch
        >>> from mmspike.models import SpikingFPN
        >>> neck = SpikingFPN([8, 16], 32, num_outs=3)
        >>> scales = neck((torch.randn(2, 1, 8, 16, 16), torch.randn(2, 1, 16, 8, 8)))
        >>> [tuple(scale.shape) for scale in scales]
        [(2, 1, 32, 16, 16), (2, 1, 32, 8, 8), (2, 1, 32, 4, 4)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        extra_levels: str = 'conv',
        norm_cfg: dict | None = None,
        neuron: dict | None = None,
        binary: bool = False,
        weight_bits: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        in_channels = list(in_channels)
        if not 0 <= start_level < len(in_channels):
            raise ValueError(f'start_level must be in [0, {len(in_channels) - 1}], got {start_level}')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.start_level = start_level
        n_extra = num_outs - (len(in_channels) - start_level)
        if n_extra < 0:
            raise ValueError(f'num_outs={num_outs} is less than the {len(in_channels) - start_level} scales that are given')
        if extra_levels not in ('conv', 'pool'):
            raise ValueError(f"extra_levels must be 'conv' or 'pool', got {extra_levels!r}")
        kwargs: dict = dict(
            neuron=neuron or dict(type='SFA', levels=4, divisor=1), norm_cfg=norm_cfg, weight_bits=bits_of(binary, weight_bits)
        )
        used = in_channels[start_level:]
        self.lateral_convs = nn.ModuleList(SpikingConv(c, out_channels, **kwargs) for c in used)
        self.fpn_convs = nn.ModuleList(SpikingConv(out_channels, out_channels, 3, **kwargs) for _ in used)
        self.extra_convs = nn.ModuleList()
        if extra_levels == 'conv':
            self.extra_convs.extend(SpikingConv(out_channels, out_channels, 3, 2, **kwargs) for _ in range(n_extra))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of the pyramid, see the class."""
        if len(feats) != len(self.in_channels):
            raise ValueError(f'expected {len(self.in_channels)} features of {self.in_channels} channels, got {len(feats)}')
        for x in feats:
            if x.dim() != 5:
                raise ValueError(
                    f'expected features [T, B, C, H, W], got shape {tuple(x.shape)}: set temporal_output="keep" in the backbone'
                )
        pyramid = [conv(x) for conv, x in zip(self.lateral_convs, feats[self.start_level :], strict=True)]
        for i in range(len(pyramid) - 1, 0, -1):
            pyramid[i - 1] = pyramid[i - 1] + resized(pyramid[i], pyramid[i - 1].shape[-2:], mode='nearest')
        outs = [conv(x) for conv, x in zip(self.fpn_convs, pyramid, strict=True)]
        for i in range(self.num_outs - len(outs)):
            outs.append(self.extra_convs[i](outs[-1]) if self.extra_convs else outs[-1][..., ::2, ::2])
        return tuple(outs)
