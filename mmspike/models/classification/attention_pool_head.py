"""Classification head that pools tokens of all steps by attention."""

from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmspike.registry import MODELS


@MODELS.register_module()
class AttentionPoolClsHead(ClsHead):
    """Layer norm, softmax attention pooling over all tokens of all steps, linear: Spikeformer's head (arXiv 2211.10686).

    The weights of the pooling are the softmax of one learned score per token. It holds no neuron: it is not spike-driven.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the last feature.
        loss, topk, cal_acc, init_cfg: As mmpretrain's ``ClsHead``; the default init is truncated normal 0.02, bias 0.

    Shape:
        A tuple whose last item is [T, B, C, H, W] (a backbone with ``temporal_output='keep'``) -> logits [B, num_classes].

    Example:
        >>> import torch
        >>> from mmspike.models.classification import AttentionPoolClsHead
        >>> head = AttentionPoolClsHead(num_classes=10, in_channels=16)
        >>> head((torch.randn(4, 2, 16, 8, 8),)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int, in_channels: int, init_cfg: dict | None = None, **kwargs) -> None:
        super().__init__(init_cfg=init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0), **kwargs)
        if num_classes < 1:
            raise ValueError(f'num_classes must be positive, got {num_classes}')
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.score = nn.Linear(in_channels, 1)
        self.fc = nn.Linear(in_channels, num_classes)

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Pooled tokens [B, C]."""
        x = feats[-1]
        if x.dim() != 5:
            raise ValueError(
                f'expected features [T, B, C, H, W], got shape {tuple(x.shape)}: set temporal_output="keep" in the backbone'
            )
        tokens = self.norm(x.permute(1, 0, 3, 4, 2).flatten(1, 3))
        return (self.score(tokens).softmax(1) * tokens).sum(1)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Logits [B, num_classes]."""
        return self.fc(self.pre_logits(feats))
