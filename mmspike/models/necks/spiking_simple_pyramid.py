"""Spiking feature pyramid for a backbone whose features have one stride."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmspike.models.layers import SpikingConv, SpikingConvTranspose, bits_of
from mmspike.registry import MODELS


@MODELS.register_module()
class SpikingSimplePyramid(BaseModule):
    """The simple feature pyramid of plain backbones (ViTDet, arXiv 2203.16527, section 3), in which weights read spikes alone.

    It is made of the last feature only, of stride s: scales of stride s / 4 and s / 2 by two and one times N - transposed 2x2
    of stride 2, s as it is, 2 s by N - 3x3 of stride 2; then per scale N - 1x1, N - 3x3. Scales beyond these four are added
    on top by N - 3x3 of stride 2 each.

    Args:
        in_channels: Channels of the last feature, a multiple of 4.
        out_channels: Channels of every output.
        num_outs: Levels, at least 4: strides s / 4, s / 2, s, 2 s, 4 s, …
        norm_cfg: Norm after each convolution, or None: bias instead.
        neuron: Neuron config.
        binary: Weights of one bit (BESTformer), see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of a weight, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``.

    Shape:
        A tuple whose last item is [T, B, C, H, W], a membrane -> a tuple of ``num_outs`` membranes [T, B, C', H_i, W_i], of
        4 H, 2 H, H, H / 2 (rounded up), …

    Raises:
        ValueError: The feature is not [T, B, C, H, W] with ``in_channels`` channels, or an argument is out of range.

    Example:
        >>> import torch
        >>> from mmspike.models import SpikingSimplePyramid
        >>> neck = SpikingSimplePyramid(16, 32, num_outs=4)
        >>> [tuple(f.shape) for f in neck((torch.randn(2, 1, 16, 4, 4),))]
        [(2, 1, 32, 16, 16), (2, 1, 32, 8, 8), (2, 1, 32, 4, 4), (2, 1, 32, 2, 2)]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_outs: int = 5,
        norm_cfg: dict | None = None,
        neuron: dict | None = None,
        binary: bool = False,
        weight_bits: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        if in_channels % 4:
            raise ValueError(f'in_channels must be a multiple of 4, got {in_channels}')
        if num_outs < 4:
            raise ValueError(f'num_outs must be at least 4, got {num_outs}')
        self.in_channels = in_channels
        self.out_channels = out_channels
        kwargs: dict = dict(
            neuron=neuron or dict(type='SFA', levels=4, divisor=1), norm_cfg=norm_cfg, weight_bits=bits_of(binary, weight_bits)
        )
        half, quarter = in_channels // 2, in_channels // 4
        self.scale_convs = nn.ModuleList(
            [
                nn.Sequential(
                    SpikingConvTranspose(in_channels, half, 2, 2, **kwargs), SpikingConvTranspose(half, quarter, 2, 2, **kwargs)
                ),
                SpikingConvTranspose(in_channels, half, 2, 2, **kwargs),
                nn.Identity(),
                SpikingConv(in_channels, in_channels, 3, 2, **kwargs),
            ]
        )
        self.level_convs = nn.ModuleList(
            nn.Sequential(SpikingConv(dim, out_channels, **kwargs), SpikingConv(out_channels, out_channels, 3, **kwargs))
            for dim in (quarter, half, in_channels, in_channels)
        )
        self.extra_convs = nn.ModuleList(SpikingConv(out_channels, out_channels, 3, 2, **kwargs) for _ in range(num_outs - 4))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels of the pyramid, see the class."""
        x = feats[-1]
        if x.dim() != 5 or x.shape[2] != self.in_channels:
            raise ValueError(
                f'expected a last feature [T, B, {self.in_channels}, H, W], got shape {tuple(x.shape)}: set '
                'temporal_output="keep" in the backbone and in_channels to its last out_channels'
            )
        outs = [level(scale(x)) for scale, level in zip(self.scale_convs, self.level_convs, strict=True)]
        for conv in self.extra_convs:
            outs.append(conv(outs[-1]))
        return tuple(outs)
