"""Spiking mask head."""

from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import Tensor, nn

from mmspike.models.layers import SpikingConv, SpikingConvTranspose, bits_of, fold, mean_time, run, unfold
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .neuron import head_neuron


@MODELS.register_module()
class SpikingFCNMaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead`` in which every weight reads spikes: num_convs x (N - 3x3 (- norm)), N - deconv (- norm),
    N - 1x1.

    Args:
        neuron: Neuron config.
        binary: Weights of one bit in the hidden layers, see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of their weights, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``.
        *args, **kwargs: The host's. ``upsample_cfg`` may be 'deconv', or 'nearest', 'bilinear' (of the membrane) or None.

    Shape:
        RoI features [T, N, C, h, w], membranes -> mask logits [N, classes, 2h, 2w], averaged over T.

    Example:
        >>> import torch
        >>> from mmspike.models.detection import SpikingFCNMaskHead
        >>> head = SpikingFCNMaskHead(num_convs=1, in_channels=8, conv_out_channels=8, num_classes=3)
        >>> head(torch.randn(4, 5, 8, 14, 14)).shape
        torch.Size([5, 3, 28, 28])
    """

    rows = (('neuron_logits', 'conv_logits'),)  # who runs after whom, for mmspike.deploy

    def __init__(
        self, *args, neuron: dict | None = None, binary: bool = False, weight_bits: int | None = None, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.upsample_method == 'carafe' or self.conv_cfg:
            raise ValueError(
                'SpikingFCNMaskHead takes no carafe upsampling and no conv_cfg, got '
                f'upsample {self.upsample_method!r} and conv_cfg={self.conv_cfg}'
            )
        neuron = head_neuron(neuron)
        del self.relu
        layer_cfg = dict(norm_cfg=self.norm_cfg, neuron=neuron, weight_bits=bits_of(binary, weight_bits))
        dim, convs = self.in_channels, []
        for _ in range(self.num_convs):
            convs.append(SpikingConv(dim, self.conv_out_channels, self.conv_kernel_size, **layer_cfg))
            dim = self.conv_out_channels
        self.convs = nn.ModuleList(convs)
        if self.upsample_method == 'deconv':
            scale = self.scale_factor
            self.upsample = SpikingConvTranspose(dim, self.conv_out_channels, scale, scale, **layer_cfg)
        self.neuron_logits = build_neuron(neuron)

    def init_weights(self) -> None:
        """As the host's, Kaiming normal, but for the last layer.

        Of one class the host's has weights of 1.4 there. Against counts, each of which is up to a half off its membrane, that
        is an error of some 3 in a logit of 64 channels, which the layers below cannot make smaller behind a norm.
        """
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.01)
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) and m is not self.conv_logits:
                nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')
                if m.bias is not None:
                    nn.init.zeros_(m.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mask logits, see the class."""
        T = x.shape[0]
        for conv in self.convs:
            x = conv(x)
        if self.upsample_method == 'deconv':
            x = self.upsample(x)
        elif self.upsample is not None:
            x = unfold(self.upsample(fold(x)), T)
        return mean_time(run([self.neuron_logits, self.conv_logits], x))
