"""Complete IoU between all pairs of boxes, for assigners."""

import torch
from mmdet.models.losses.iou_loss import ciou_loss
from torch import Tensor

from mmspike.registry import TASK_UTILS


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
        # mmdet divides 0 by 0 where boxes are equal up to rounding
        equal = ciou.isnan() & (a + b).isfinite().all(1)
        return torch.where(equal, 1.0, ciou).clamp(min=0).view(n, m)
