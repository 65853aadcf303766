"""Spiking anchor heads: region proposals and RetinaNet."""

import sys
from collections.abc import Mapping

from mmdet.models.dense_heads import RetinaHead, RPNHead
from mmengine.config import ConfigDict
from torch import Tensor, nn

from mmspike.models.layers import SpikingConv, bits_of, mean_time
from mmspike.registry import MODELS

from .neuron import head_neuron


def all_candidates(test_cfg: Mapping | None) -> Mapping | None:
    """``test_cfg`` of a dense head, where ``nms_pre`` is missing or -1 with all candidates in its place.

    mmdet's heads take -1 for a slice, which leaves out the lowest candidate of every level: of a single one, all.
    """
    if test_cfg is None or (test_cfg.get('nms_pre') or -1) > 0:
        return test_cfg
    return ConfigDict({**test_cfg, 'nms_pre': sys.maxsize})


@MODELS.register_module()
class SpikingRPNHead(RPNHead):
    """mmdet's ``RPNHead`` in which every weight reads spikes: num_convs x (N - 3x3 (- norm)), then N - 1x1 for scores and
    for boxes.

    Args:
        neuron: Neuron config.
        binary: Weights of one bit in the hidden layers, see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of their weights, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``.
        norm_cfg: Norm after each 3x3, or None. LIF neurons learn from scratch with one only: without it few of them fire.
        **kwargs: The host's. Hidden layers start Kaiming normal, without which few neurons would fire.

    Shape:
        Levels [T, B, C, H_i, W_i], membranes -> scores [B, A, H_i, W_i] and deltas [B, 4 A, H_i, W_i], averaged over T.

    Example:
        >>> import torch
        >>> from mmspike.models.detection import SpikingRPNHead
        >>> head = SpikingRPNHead(in_channels=8, feat_channels=8)
        >>> scores, deltas = head((torch.randn(4, 2, 8, 16, 16), torch.randn(4, 2, 8, 8, 8)))
        >>> [tuple(s.shape) for s in scores]
        [(2, 9, 16, 16), (2, 9, 8, 8)]
    """

    def __init__(
        self,
        *args,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        binary: bool = False,
        weight_bits: int | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        # set before the host's __init__, which makes the layers
        self.neuron_cfg = head_neuron(neuron)
        self.norm_cfg = norm_cfg
        self.weight_bits = bits_of(binary, weight_bits)
        init_cfg = init_cfg or [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Normal', std=0.01, override=[dict(name='rpn_cls'), dict(name='rpn_reg')]),
        ]
        super().__init__(*args, init_cfg=init_cfg, **kwargs)

    def _init_layers(self) -> None:
        kwargs: dict = dict(neuron=self.neuron_cfg)
        widths = [self.in_channels, *[self.feat_channels] * self.num_convs]
        self.rpn_conv = nn.Sequential(
            *[
                SpikingConv(i, o, 3, norm_cfg=self.norm_cfg, weight_bits=self.weight_bits, **kwargs)
                for i, o in zip(widths[:-1], widths[1:], strict=True)
            ]
        )
        self.rpn_cls = SpikingConv(self.feat_channels, self.num_base_priors * self.cls_out_channels, **kwargs)
        self.rpn_reg = SpikingConv(self.feat_channels, self.num_base_priors * self.bbox_coder.encode_size, **kwargs)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One feature [T, B, C, H, W] -> scores and deltas [B, …, H, W]."""
        x = self.rpn_conv(x)
        return mean_time(self.rpn_cls(x)), mean_time(self.rpn_reg(x))


@MODELS.register_module()
class SpikingRetinaHead(RetinaHead):
    """mmdet's ``RetinaHead`` in which every weight reads spikes: towers of N - 3x3 (- norm), then N - 3x3 for each output.

    Args:
        neuron: Neuron config.
        binary: Weights of one bit in the hidden layers, see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of their weights, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``.
        test_cfg: The host's; without ``nms_pre`` all candidates go on.
        **kwargs: The host's. Towers start Kaiming normal, without which few neurons would fire.

    Shape:
        Levels [T, B, C, H_i, W_i], membranes -> scores [B, A classes, H_i, W_i] and deltas [B, 4 A, H_i, W_i], averaged
        over T.

    Example:
        >>> import torch
        >>> from mmspike.models.detection import SpikingRetinaHead
        >>> head = SpikingRetinaHead(num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1)
        >>> scores, deltas = head((torch.randn(4, 2, 8, 16, 16),))
        >>> tuple(scores[0].shape), tuple(deltas[0].shape)
        ((2, 27, 16, 16), (2, 36, 16, 16))
    """

    def __init__(
        self,
        *args,
        neuron: dict | None = None,
        binary: bool = False,
        weight_bits: int | None = None,
        test_cfg: Mapping | None = None,
        init_cfg: dict | list[dict] | None = None,
        **kwargs,
    ) -> None:
        # the host's __init__ makes the layers
        self.neuron_cfg = head_neuron(neuron)
        self.weight_bits = bits_of(binary, weight_bits)
        init_cfg = init_cfg or [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Normal', std=0.01, override=dict(name='retina_reg')),
            dict(type='Normal', std=0.01, bias_prob=0.01, override=dict(name='retina_cls')),
        ]
        super().__init__(*args, init_cfg=init_cfg, test_cfg=all_candidates(test_cfg), **kwargs)
        if self.conv_cfg:
            raise ValueError(f'SpikingRetinaHead has ordinary convolutions only, got conv_cfg={self.conv_cfg}')

    def _init_layers(self) -> None:
        widths = [self.in_channels, *[self.feat_channels] * self.stacked_convs]
        kwargs: dict = dict(neuron=self.neuron_cfg)
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(
                SpikingConv(i, o, 3, norm_cfg=self.norm_cfg, weight_bits=self.weight_bits, **kwargs)
                for i, o in zip(widths[:-1], widths[1:], strict=True)
            )
            for _ in range(2)
        )
        self.retina_cls = SpikingConv(widths[-1], self.num_base_priors * self.cls_out_channels, 3, **kwargs)
        self.retina_reg = SpikingConv(widths[-1], self.num_base_priors * self.bbox_coder.encode_size, 3, **kwargs)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One feature [T, B, C, H, W] -> scores and deltas [B, …, H, W]."""
        scores, deltas = x, x
        for cls_conv, reg_conv in zip(self.cls_convs, self.reg_convs, strict=True):
            scores, deltas = cls_conv(scores), reg_conv(deltas)
        return mean_time(self.retina_cls(scores)), mean_time(self.retina_reg(deltas))
