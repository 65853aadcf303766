"""Spiking head of the semantic feature pyramid."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmspike.models.layers import SpikingConv, resized
from mmspike.registry import MODELS

from .decode_head import SpikingDecodeHead


@MODELS.register_module()
class SpikingFPNHead(SpikingDecodeHead):
    """Semantic FPN head (arXiv 1901.02446) with spikes: per level N - 3x3 - norm and enlargement by 2, the sum, N - 1x1.

    A level takes one convolution for each doubling up to the size of the finest level; the finest takes one. Membranes are
    what is enlarged (bilinearly) and summed.

    Args:
        feature_strides: Strides of the features, finest first, each a power of two times the first.
        in_channels: Channels of the features that ``in_index`` names.
        norm_cfg: Norm after each convolution (``dict(type='BN')``), or None: bias instead.
        **kwargs: Those of :class:`SpikingDecodeHead`.

    Shape:
        Levels [T, B, C_i, H_i, W_i], where H_i is that of the image over the stride, rounded up or down -> logits
        [B, classes, H_0, W_0].

    Raises:
        ValueError: The strides are not powers of two times the first, or not as many as the features.

    Example:
        >>> import torch
        >>> from mmspike.models.segmentation import SpikingFPNHead
        >>> head = SpikingFPNHead([4, 8], in_channels=[16, 16], in_index=[0, 1], channels=8, num_classes=5)
        >>> head((torch.randn(4, 2, 16, 8, 8), torch.randn(4, 2, 16, 4, 4))).shape
        torch.Size([2, 5, 8, 8])
    """

    def __init__(self, feature_strides: Sequence[int], **kwargs) -> None:
        super().__init__(input_transform='multiple_select', **kwargs)
        doublings = [(s // feature_strides[0]).bit_length() - 1 for s in feature_strides]
        if len(feature_strides) != len(self.in_channels):
            raise ValueError(f'feature_strides {feature_strides} must be as many as in_channels {self.in_channels}')
        if any(n < 0 or s != feature_strides[0] * 2**n for s, n in zip(feature_strides, doublings, strict=True)):
            raise ValueError(f'feature_strides must be powers of two times the first one, got {feature_strides}')
        self.feature_strides = tuple(feature_strides)
        self.doublings = doublings
        self.scale_heads = nn.ModuleList()
        for in_channels, n in zip(self.in_channels, doublings, strict=True):
            widths = [in_channels] + [self.channels] * max(1, n)
            self.scale_heads.append(nn.ModuleList(SpikingConv(c, self.channels, 3, **self.layer_cfg) for c in widths[:-1]))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits, see the class."""
        pyramid = self._transform_inputs(inputs)
        size = pyramid[0].shape[-2:]
        total: Any = None
        for x, n, convs in zip(pyramid, self.doublings, self.scale_heads, strict=True):
            for i, conv in enumerate(convs):
                x = conv(x)
                if n:
                    # sizes that were rounded to whole strides: the last step ends at the finest level's
                    x = self._enlarge(x, size if i == n - 1 else [2 * side for side in x.shape[-2:]])
            total = x if total is None else total + x
        return self.cls_seg(total)

    def _enlarge(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return resized(x, size, mode='bilinear', align_corners=self.align_corners)
