"""The spiking mask transformer: pixel decoder, query decoder, masks."""

from collections.abc import Sequence

from torch import Tensor, nn

from .pixel_decoder import SpikingPixelDecoder
from .queries_to_masks import QueriesToMasks
from .query_decoder import SpikingQueryDecoder


class SpikingMaskTransformer(nn.Module):
    """Masks with a class each, of the features of a spiking backbone (Spike2Former, arXiv 2412.14587, section 3).

    Args:
        num_classes: Classes, without that of no object.
        in_channels: Channels of the features, finest first, each of twice the stride of the one before. Masks have the size of
            the first: strides 2 to 16 as published, 4 to 16 for a quarter of the memory.
        channels: Width E.
        num_queries: Queries, the largest number of masks.
        encoder_layers, encoder_channels: Layers of the pixel decoder and the hidden width of their MLPs.
        groups: Of its deformable sampling, or 0: none.
        decoder_layers, decoder_channels, num_heads: Layers of the query decoder, the hidden width of their MLPs, and heads.
        dense: The 3x3 convolutions on the pixel decoder's way up are dense, as in MaskFormer, and not depthwise as published.
        places: Its way up knows the places of pixels, which masks of instances need; not published.
        num_levels: Levels that queries read in turns, coarsest first.
        num_pixels: Pixels of these levels in training, coarsest first; attention is scaled for them. None: as published.
        layer_scale: What the branches of the pixel decoder are multiplied with at the start.
        neuron: Neuron config: the D of all parts, default SFA with D = divisor = 4, which is NI-LIF at T = 1.
        norm_cfg: Norm config, default BN.

    Shape:
        Features [T, B, C_i, H_i, W_i], membranes -> lists of scores [B, Q, classes + 1] and mask logits [B, Q, H_0, W_0]: in
        training of the queries at the start and after every layer, else of the last alone.

    Raises:
        ValueError: The features are not as many as ``in_channels``, not [T, B, C, H, W], or of sizes that do not halve; the
            neuron is stateful; a width is no multiple of groups or heads.

    Example:
        >>> import torch
        >>> from mmspike.models.mask_former import SpikingMaskTransformer
        >>> small = dict(encoder_layers=1, groups=2, decoder_layers=1, num_heads=2)
        >>> network = SpikingMaskTransformer(3, [8, 8], 16, 10, **small).eval()
        >>> scores, masks = network((torch.randn(1, 2, 8, 16, 16), torch.randn(1, 2, 8, 8, 8)))
        >>> scores[-1].shape, masks[-1].shape
        (torch.Size([2, 10, 4]), torch.Size([2, 10, 16, 16]))
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        channels: int = 256,
        num_queries: int = 100,
        encoder_layers: int = 6,
        encoder_channels: int | None = None,
        groups: int = 32,
        decoder_layers: int = 6,
        decoder_channels: int | None = None,
        num_heads: int = 8,
        dense: bool = False,
        places: bool = False,
        num_levels: int = 3,
        num_pixels: Sequence[int] | None = None,
        layer_scale: float = 1e-6,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        neuron, norm_cfg = neuron or dict(type='SFA', levels=4), norm_cfg or dict(type='BN')
        if neuron.get('stateful'):
            raise ValueError(
                f'the mask transformer takes no stateful neuron, got {dict(neuron)}: its next call is another image. '
                'Keep stateful=True for the backbone'
            )
        if len(in_channels) < 1 or channels % 4:
            raise ValueError(
                f'expected features and channels that are a multiple of 4, for sines and cosines of two coordinates, got '
                f'in_channels={in_channels}, {channels=}'
            )
        self.in_channels = list(in_channels)
        shared: dict = dict(neuron=neuron, norm_cfg=norm_cfg)
        self.num_levels = min(num_levels, len(self.in_channels))
        self.pixel_decoder = SpikingPixelDecoder(
            self.in_channels,
            channels,
            encoder_layers,
            encoder_channels or 4 * channels,
            groups,
            dense,
            places,
            layer_scale,
            **shared,
        )
        self.query_decoder = SpikingQueryDecoder(
            channels,
            num_queries,
            decoder_layers,
            num_heads,
            decoder_channels or 8 * channels,
            self.num_levels,
            **shared,
            num_pixels=num_pixels,
        )
        self.queries_to_masks = QueriesToMasks(num_classes, channels, num_queries, **shared)

    def init_weights(self) -> None:
        """As published, see the parts."""
        for part in (self.pixel_decoder, self.query_decoder, self.queries_to_masks):
            part.init_weights()

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        if len(feats) != len(self.in_channels) or any(x.dim() != 5 for x in feats):
            raise ValueError(
                f'expected {len(self.in_channels)} features [T, B, C, H, W] of {self.in_channels} channels, got '
                f'{[tuple(x.shape) for x in feats]}: set temporal_output="keep" in the backbone'
            )
        features, levels = self.pixel_decoder(feats)
        states = self.query_decoder(levels[: self.num_levels])
        return self.queries_to_masks(states if self.training else states[-1:], features)
