"""Spiking DeepLab head."""

from collections.abc import Sequence

from torch import Tensor

from mmspike.models.layers import SpikingConv
from mmspike.registry import MODELS

from .decode_head import SpikingDecodeHead


@MODELS.register_module()
class SpikingDeepLabHead(SpikingDecodeHead):
    """Spiking-DeepLab head (arXiv 2110.07742): N - 3x3 dilated - norm, N - 1x1 to the classes; mmseg enlarges bilinearly.

    Args:
        in_channels: Channels of the feature that ``in_index`` names.
        channels: Channels of the dilated convolution.
        dilation: Its dilation.
        norm_cfg: Norm after it (``dict(type='BN')``), or None: bias instead.
        **kwargs: Those of :class:`SpikingDecodeHead`.

    Shape:
        [T, B, C, H, W] -> logits [B, classes, H, W].

    Example:
        >>> import torch
        >>> from mmspike.models.segmentation import SpikingDeepLabHead
        >>> head = SpikingDeepLabHead(in_channels=16, channels=8, num_classes=5)
        >>> head((torch.randn(4, 2, 16, 8, 8),)).shape
        torch.Size([2, 5, 8, 8])
    """

    def __init__(self, in_channels: int | Sequence[int], channels: int = 1024, dilation: int = 12, **kwargs) -> None:
        super().__init__(in_channels, channels, **kwargs)
        self.conv = SpikingConv(self.in_channels, channels, 3, dilation=dilation, **self.layer_cfg)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits, see the class."""
        return self.cls_seg(self.conv(self._transform_inputs(inputs)))
