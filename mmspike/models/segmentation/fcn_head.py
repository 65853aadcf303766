"""Spiking fully convolutional head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmspike.models.layers import SpikingConv, SpikingConvTranspose, mean_time
from mmspike.registry import MODELS

from .decode_head import SpikingDecodeHead


@MODELS.register_module()
class SpikingFCNHead(SpikingDecodeHead):
    """Spiking-FCN head (arXiv 2110.07742): N - conv - norm, N - 1x1 to the classes, up-steps with skips on the membrane.

    An up-step is N - 4x4 transposed convolution of stride 2, plus N - 1x1 of the next finer feature, both with as many
    channels as there are classes. (The published code enlarges by 3x3 and resizes, and its first up-step reads scores that
    are not spikes.) On one feature there is no up-step: that serves as an auxiliary head, too, and has the arguments of mmseg's
    ``FCNHead``.

    Args:
        in_channels, in_index: Of one feature, or sequences of as many as there are up-steps and one more, finest first: the
            last goes through the convolutions, the others are the skips. Each has twice the stride of the one before.
        channels: Channels of the convolutions.
        num_convs: Number of convolutions; 0 needs in_channels equal to channels.
        kernel_size, dilation: Of the convolutions.
        concat_input: Whether a further convolution reads the membranes before and after the convolutions together.
        norm_cfg: Norm after each convolution (``dict(type='BN')``), or None: bias instead.
        init_cfg: mmengine's; by default mmseg's own, and with up-steps Xavier of gain 2, with which scores fire.
        **kwargs: Those of :class:`SpikingDecodeHead`.

    Shape:
        Features [T, B, C_i, H_i, W_i] -> logits [B, classes, H, W] of the size of the finest feature in use.

    Raises:
        ValueError: A feature has not half the size of the one before it, or ``num_convs=0`` does not fit the channels.

    Example:
        >>> import torch
        >>> from mmspike.models.segmentation import SpikingFCNHead
        >>> head = SpikingFCNHead(in_channels=16, channels=8, num_classes=5)
        >>> head((torch.randn(4, 2, 16, 8, 8),)).shape
        torch.Size([2, 5, 8, 8])
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        channels: int = 1024,
        num_convs: int = 2,
        kernel_size: int = 3,
        dilation: int = 1,
        concat_input: bool = False,
        **kwargs,
    ) -> None:
        if isinstance(in_channels, Sequence) and kwargs.get('input_transform') is None:
            kwargs['input_transform'] = 'multiple_select'
            init_cfg = dict(type='Xavier', layer=['Conv2d', 'ConvTranspose2d'], gain=2, distribution='uniform')
            kwargs.setdefault('init_cfg', init_cfg)
        super().__init__(in_channels, channels, **kwargs)
        # a concatenation of resized features is one feature
        *finer, width = [self.in_channels] if isinstance(self.in_channels, int) else self.in_channels
        if num_convs == 0 and width != channels:
            raise ValueError(f'num_convs=0 needs in_channels ({width}) equal to channels ({channels})')
        layer_cfg = self.layer_cfg
        self.convs = nn.Sequential()
        for i in range(num_convs):
            self.convs.append(SpikingConv(channels if i else width, channels, kernel_size, dilation=dilation, **layer_cfg))
        self.conv_cat = SpikingConv(width + channels, channels, kernel_size, **layer_cfg) if concat_input else None
        classes, neuron = self.out_channels, self.neuron_cfg
        self.ups = nn.ModuleList(SpikingConvTranspose(classes, classes, 4, 2, 1, neuron=neuron) for _ in finer)
        self.skips = nn.ModuleList(SpikingConv(c, classes, neuron=neuron) for c in reversed(finer))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits, see the class."""
        features = self._transform_inputs(inputs)
        *finer, feature = features if isinstance(features, list) else [features]
        x = self.convs(feature)
        if self.conv_cat is not None:
            x = self.conv_cat(torch.cat([feature, x], 2))
        scores = self.classify(x)
        for up, skip in zip(self.ups, self.skips, strict=True):
            enlarged, fine = up(scores), skip(finer.pop())
            height, width = fine.shape[-2:]
            if not (0 <= enlarged.shape[-2] - height < 2 and 0 <= enlarged.shape[-1] - width < 2):
                raise ValueError(
                    f'twice the size of a feature is {tuple(enlarged.shape[-2:])}, and the next finer one has '
                    f'{(height, width)}: give features of which each has twice the stride of the one before'
                )
            # a side that was rounded up to a whole stride ends with the finer feature
            scores = enlarged[..., :height, :width] + fine
        return mean_time(scores)
