"""Operators on boxes: non-maximum suppression in its three forms, overlaps.

Names, arguments and their order are those of mmcv's compiled functions. Boxes are ``[N, 4]``: x1, y1, x2, y2 in pixels.
``offset`` 1 counts the last pixel as part of a box, as mmdet 1.x did.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .sampling import widened


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that stay, by falling score: one goes if it overlaps a better one by more than the threshold.

    torchvision's operator. Where it has no ``offset``, the boxes grow by it.
    """
    if boxes.numel() == 0:
        return boxes.new_empty(0, dtype=torch.long)
    import torchvision  # not at the top: it costs a second, and a model without boxes never needs it

    boxes = widened(boxes)
    scores = scores.to(boxes.dtype)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], 1)
    if boxes.dtype == torch.float32:  # mmcv compares in float32
        iou_threshold = float(np.float32(iou_threshold))
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def _overlaps_of_one(box: np.ndarray, area: np.ndarray, boxes: np.ndarray, areas: np.ndarray, offset: int) -> np.ndarray:
    """IoU of ``box`` [4] with ``boxes`` [4, N]; 0 / 0 is NaN, which is over no threshold."""
    one = boxes.dtype.type(1)
    width = np.maximum(np.minimum(box[2], boxes[2]) - np.maximum(box[0], boxes[0]) + offset * one, 0)
    height = np.maximum(np.minimum(box[3], boxes[3]) - np.maximum(box[1], boxes[1]) + offset * one, 0)
    inter = width * height
    with np.errstate(divide='ignore', invalid='ignore'):
        return inter / (area + areas - inter)


def _corners(boxes: Tensor, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners [4, N] and areas [N] as arrays."""
    corners = widened(boxes.detach()).cpu().t().contiguous().numpy()
    one = corners.dtype.type(1)
    return corners, (corners[2] - corners[0] + offset * one) * (corners[3] - corners[1] + offset * one)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (arXiv:1704.04503): scores of overlapping boxes fall instead of the boxes going.

    Args:
        boxes: [N, 4].
        scores: [N].
        dets: [N, 5], written in place: the M boxes that stay with their new scores are its first M rows.
        iou_threshold: Overlaps from here on count, in methods 0 and 1.
        sigma: Width of the Gaussian of method 2.
        min_score: A box whose score falls below goes.
        method: 0 sets the score to 0 (plain NMS), 1 multiplies it by 1 - IoU, 2 by exp(-IoU^2 / sigma).
        offset: 0 or 1.

    Returns:
        The M boxes' indices, best first.
    """
    corners, areas = _corners(boxes, offset)
    left = corners.dtype.type
    # one row a box: corners, area, score; rows move together
    rows = np.concatenate([corners, areas[None], widened(scores.detach()).cpu().numpy().astype(left)[None]])
    index = np.arange(rows.shape[1])
    iou_threshold, sigma, min_score = left(iou_threshold), left(sigma), left(min_score)
    n, i = rows.shape[1], 0
    while i < n:
        best = i + int(np.argmax(rows[5, i:n]))
        rows[:, [i, best]] = rows[:, [best, i]]
        index[[i, best]] = index[[best, i]]
        rest = rows[:, i + 1 : n]
        overlap = _overlaps_of_one(rows[:4, i], rows[4, i], rest[:4], rest[4], offset)
        if method == 2:
            rest[5] *= np.exp(-(overlap * overlap) / sigma)
        else:
            over = overlap >= iou_threshold
            rest[5, over] *= (left(1) - overlap[over]) if method == 1 else left(0)
        n = i + 1 + _close_gaps(rest, index[i + 1 : n], ~(rest[5] < min_score))
        i += 1
    dets[:n] = torch.from_numpy(rows[[0, 1, 2, 3, 5], :n].T.copy()).to(dets)
    return torch.from_numpy(index[:n].copy()).to(boxes.device)


def _close_gaps(rows: np.ndarray, index: np.ndarray, stays: np.ndarray) -> int:
    """Fill the places of what goes with what stays, taken from the end, as mmcv does: it decides between equal scores."""
    count = int(stays.sum())
    gaps = np.flatnonzero(~stays[:count])
    fillers = count + np.flatnonzero(stays[count:])[::-1]
    rows[:, gaps], index[gaps] = rows[:, fillers], index[fillers]
    return count


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """For each box that NMS keeps, by falling score: its index, then those of the boxes that it suppresses.

    Args:
        dets: [N, 5], boxes and scores.
        iou_threshold: Suppressed are overlaps of at least this.
    """
    corners, areas = _corners(dets[:, :4], 0)
    order = torch.sort(dets[:, 4].detach(), dim=0, descending=True, stable=True)[1].cpu().numpy()
    threshold = corners.dtype.type(iou_threshold)
    groups = []
    while order.size:
        best, rest = order[0], order[1:]
        over = _overlaps_of_one(corners[:, best], areas[best], corners[:, rest], areas[rest], 0) >= threshold
        groups.append([int(best), *rest[over].tolist()])
        order = rest[~over]
    return groups


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Overlaps of boxes [M, 4] with boxes [N, 4], written into ``ious``: [M, N], or [M] of pairs if ``aligned``.

    ``mode`` 0 divides the intersection by the union, 1 by the area of the first box.
    """

    def area(x: Tensor) -> Any:
        return (x[..., 2] - x[..., 0] + offset) * (x[..., 3] - x[..., 1] + offset)

    first, second = widened(bboxes1), widened(bboxes2)
    if not aligned:
        first = first[:, None]
    top_left, bottom_right = torch.max(first[..., :2], second[..., :2]), torch.min(first[..., 2:], second[..., 2:])
    inter = (bottom_right - top_left + offset).clamp(min=0).prod(-1)
    ious.copy_(inter / (area(first) + area(second) - inter if mode == 0 else area(first)))
