"""Complete IoU of boxes: between all pairs, for assigners, and as a loss. mmdet's is NaN for equal boxes, ours is not."""

import torch
from mmdet.models.losses import CIoULoss as HostCIoULoss
from mmdet.models.losses.iou_loss import ciou_loss
from torch import Tensor

from mmspike.registry import MODELS, TASK_UTILS


def _equal(loss: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Of pairs of boxes [n, 4] with mmdet's ``loss`` [n] those [n] that are equal up to rounding: there it divides 0 by 0."""
    return loss.isnan() & (a + b).isfinite().all(1)


@TASK_UTILS.register_module()
class CIoUOverlaps:
    """Complete IoU (arXiv 2005.03572) of every pair, negative ones as 0: an ``iou_calculator`` for mmdet's assigners.

    It is 1 - mmdet's ``ciou_loss``: the IoU less a penalty for the distance of centres, and, where the IoU is above 0.5, for
    unlike ratios of the sides.

    Example:
        >>> import torch
        >>> from mmspike.models.detection.overlaps import CIoUOverlaps
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
        >>> CIoUOverlaps()(boxes, torch.tensor([[0.0, 0, 10, 10]])).round(decimals=3)
        tensor([[1.],
                [0.]])
    """

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor) -> Tensor:
        """Boxes [n, 4] and [m, 4], each (x1, y1, x2, y2) -> [n, m]."""
        n, m = len(bboxes1), len(bboxes2)
        a = bboxes1[:, None].expand(n, m, 4).reshape(-1, 4)
        b = bboxes2[None].expand(n, m, 4).reshape(-1, 4)
        ciou = 1 - ciou_loss(a, b, reduction='none')
        return torch.where(_equal(ciou, a, b), 1.0, ciou).clamp(min=0).view(n, m)


@MODELS.register_module()
class CIoULoss(HostCIoULoss):
    """mmdet's ``CIoULoss``, and 0 with a gradient of 0 for a box that is found exactly, where mmdet's is NaN.

    The arguments are the host's. A box with NaN still gives NaN.

    Example:
        >>> import torch
        >>> from mmspike.models.detection import CIoULoss
        >>> box = torch.tensor([[0.0, 0, 10, 10]])
        >>> CIoULoss()(box, box)
        tensor(0.)
    """

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor | None = None, *args, **kwargs) -> Tensor:
        """Boxes [n, 4] as they are found and as they should be, weights [n] or [n, 4] -> the reduced loss, or [n]."""
        with torch.no_grad():
            equal = _equal(ciou_loss(pred, target, eps=self.eps, reduction='none'), pred, target)
        if equal.any():
            # boxes of no weight elsewhere, since the gradient of a NaN is one whatever it is multiplied by
            pred = torch.where(equal[:, None], target + 1 + target.abs(), pred)
            weight = torch.ones_like(equal, dtype=pred.dtype) if weight is None else weight
            weight = weight.masked_fill(equal if weight.dim() == 1 else equal[:, None], 0)
        return super().forward(pred, target, weight, *args, **kwargs)
