"""From spiking features to ordinary ones."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmspike.models.layers import mean_time
from mmspike.registry import MODELS


@MODELS.register_module()
class TemporalMean(BaseModule):
    """Mean over T of every feature, behind a spiking neck and before ordinary heads: ``neck=[dict(…), dict(type=…)]``.

    Shape:
        A tuple of [T, B, C, H_i, W_i] -> a tuple of [B, C, H_i, W_i].

    Example:
        >>> import torch
        >>> from mmspike.models import TemporalMean
        >>> [tuple(f.shape) for f in TemporalMean()((torch.randn(4, 2, 8, 16, 16),))]
        [(2, 8, 16, 16)]
    """

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Averaged features."""
        return tuple(map(mean_time, feats))
