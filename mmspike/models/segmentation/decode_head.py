"""The base of the spiking decode heads."""

from collections.abc import Sequence

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from mmspike.models.layers import bits_of, fold, mean_time, run, unfold
from mmspike.models.neurons import build_neuron


class SpikingDecodeHead(BaseDecodeHead):
    """mmseg's decode head on membranes [T, B, C, H, W]: the classifier reads spikes, and the logits are averaged over T.

    Losses, samplers, thresholds and prediction are mmseg's, which see logits [B, classes, H, W]. The output is a membrane
    that never fires (arXiv 2110.07742): the sum over T steps of what the classifier adds to it, divided by T.

    Args:
        in_channels, channels: As mmseg's ``BaseDecodeHead``; ``channels`` is the width before the classifier.
        neuron: Neuron config; the default is SFA with D = 4 and divisor 1.
        binary: Weights of one bit in the hidden layers, see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of their weights, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``.
        **kwargs: Those of ``BaseDecodeHead``, without ``conv_cfg`` and ``act_cfg``: neurons are the activations.
            ``dropout_ratio`` drops channels of the spikes before the classifier, at all T steps alike.
    """

    rows = (('neuron_seg', 'conv_seg'),)  # who runs after whom, for mmspike.deploy

    def __init__(
        self,
        in_channels: int | Sequence[int],
        channels: int,
        *,
        neuron: dict | None = None,
        binary: bool = False,
        weight_bits: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(in_channels, channels, conv_cfg=None, act_cfg=None, **kwargs)
        self.neuron_cfg = neuron or dict(type='SFA', levels=4, divisor=1)
        self.neuron_seg = build_neuron(self.neuron_cfg)
        #: of the hidden layers
        self.layer_cfg = dict(neuron=self.neuron_cfg, norm_cfg=self.norm_cfg, weight_bits=bits_of(binary, weight_bits))

    def _transform_inputs(self, inputs: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The features that ``in_index`` and ``input_transform`` ask for, [T, B, C, H, W]."""
        for x in inputs:
            if x.dim() != 5:
                raise ValueError(
                    f'expected features [T, B, C, H, W], got shape {tuple(x.shape)}: set temporal_output="keep" in the backbone'
                )
        T = inputs[0].shape[0]
        with torch.autocast(inputs[0].device.type, enabled=False):  # which would resize in float32
            x = super()._transform_inputs([fold(x) for x in inputs])
        return [unfold(level, T) for level in x] if isinstance(x, list) else unfold(x, T)

    def classify(self, feat: Tensor) -> Tensor:
        """Increments of the output membrane by the classifier at each step, [T, B, classes, H, W], for [T, B, C, H, W]."""
        if self.dropout is None or not self.dropout.training:
            return run([self.neuron_seg, self.conv_seg], feat)
        spikes = self.neuron_seg(feat)
        return run([self.conv_seg], spikes * self.dropout(spikes.new_ones(*spikes.shape[1:3], 1, 1)))

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Logits [B, classes, H, W] of membranes [T, B, C, H, W]."""
        return mean_time(self.classify(feat))
