"""Spiking linear classification head."""

import torch.nn.functional as F
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmspike.models.layers import bits_of
from mmspike.models.layers.low_bit import few_bits
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS


@MODELS.register_module()
class SpikingLinearClsHead(ClsHead):
    """Mean over H and W, neuron, linear, mean over T.

    With ``distilled=True`` a second linear layer reads the same spikes: in training the head returns both outputs, in
    evaluation their average (Spike-driven Transformer V2, arXiv 2404.03663).

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the last feature.
        neuron: Neuron config.
        distilled: Whether there is a distillation output.
        binary: Binary weights, see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of the weights, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``. Not of a
            distilled head: the mean of its outputs has weights of more bits.
        loss, topk, cal_acc, init_cfg: As mmpretrain's ``ClsHead``; the default init is truncated normal 0.02, bias 0.

    Shape:
        A tuple whose last item is [T, B, C, H, W] (a backbone with ``temporal_output='keep'``) -> logits [B, num_classes].

    Example:
        >>> import torch
        >>> from mmspike.models.classification import SpikingLinearClsHead
        >>> head = SpikingLinearClsHead(num_classes=10, in_channels=16)
        >>> head((torch.randn(4, 2, 16, 8, 8),)).shape
        torch.Size([2, 10])
    """

    rows = (('neuron', 'fc'),)  # who runs after whom, for mmspike.deploy

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        neuron: dict | None = None,
        distilled: bool = False,
        binary: bool = False,
        weight_bits: int | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(init_cfg=init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0), **kwargs)
        if num_classes < 1:
            raise ValueError(f'num_classes must be positive, got {num_classes}')
        bits = bits_of(binary, weight_bits)
        if distilled and bits:
            raise ValueError(f'distilled=True merges two layers for inference, which leaves weights of more bits than {bits}')
        self.neuron = build_neuron(neuron or dict(type='LIF', tau=2.0))
        self.fc = few_bits(nn.Linear(in_channels, num_classes), bits)
        self.fc_kd = nn.Linear(in_channels, num_classes) if distilled else None
        self.merges_layers = distilled  # for set_weight_bits

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Spikes [T, B, C] that the classifier reads."""
        x = feats[-1]
        if x.dim() != 5:
            raise ValueError(
                f'expected features [T, B, C, H, W], got shape {tuple(x.shape)}: set temporal_output="keep" in the backbone'
            )
        return self.neuron(x.mean((3, 4)))

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [B, num_classes]; for a distilled head in training the pair (classes, distillation)."""
        spikes = self.pre_logits(feats)
        logits = self.fc(spikes).mean(0)
        if self.fc_kd is None:
            return logits
        logits_kd = self.fc_kd(spikes).mean(0)
        return (logits, logits_kd) if self.training else (logits + logits_kd) / 2

    def loss(self, feats: tuple[Tensor, ...], data_samples: list, teacher_labels: Tensor | None = None, **kwargs) -> dict:
        """Classification loss.

        A distilled head halves it and adds half the cross entropy of the distillation output with ``teacher_labels`` [B],
        the classes that a teacher sees (hard distillation, DeiT, arXiv 2012.12877, section 4). Without a teacher, both
        outputs learn the labels.
        """
        if self.fc_kd is None:
            return super().loss(feats, data_samples, **kwargs)
        spikes = self.pre_logits(feats)
        logits, logits_kd = self.fc(spikes).mean(0), self.fc_kd(spikes).mean(0)
        losses = self._get_loss(logits, data_samples, **kwargs)
        losses['loss'] = 0.5 * losses['loss']
        if teacher_labels is None:
            loss_kd = self._get_loss(logits_kd, data_samples, **kwargs)['loss']
        else:
            loss_kd = F.cross_entropy(logits_kd, teacher_labels)
        losses['loss_kd'] = 0.5 * loss_kd
        return losses
