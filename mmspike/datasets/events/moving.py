"""Events, boxes and label maps that move together."""

from typing import Any

import numpy as np

IGNORED = 255  # the label of a map's pixels that come from outside


def check_annotations(results: dict, name: str) -> None:
    """Refuse samples whose annotations the transform ``name`` would leave where they are.

    Raises:
        ValueError: There are masks, or annotations that are loaded only later.
    """
    if 'gt_masks' in results:
        raise ValueError(f'{name} moves boxes and label maps, but no gt_masks: leave one of them out')
    if (results.get('instances') and 'gt_bboxes' not in results) or (
        results.get('seg_map_path') and 'gt_seg_map' not in results
    ):
        raise ValueError(f'{name} stands before the annotations are loaded: put LoadAnnotations before it')


def move(
    results: dict, matrix: np.ndarray, offset: np.ndarray, size: tuple[int, ...] | None = None, jitter: bool = True
) -> dict:
    """Move ``events``, and where there are such ``gt_bboxes`` and ``gt_seg_map``, by ``matrix @ (x, y) + offset``.

    A pixel (0, 0) is the square from 0 to 1.

    Args:
        results: A sample, which is changed.
        matrix: [2, 2].
        offset: [2], in px.
        size: Height and width of the result; what leaves it is lost. None: that of the sensor.
        jitter: Every event takes a random place within its pixel, so that a magnified picture has no gaps; else its middle.
    """
    height, width = size = size or results['sensor_size']
    events = results['events'].copy()
    within: Any = np.random.rand(len(events), 2) if jitter else 0.5
    places = np.stack([events['x'], events['y']], 1) + within
    x, y = np.floor(places @ matrix.T + offset).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    events = events[inside]
    events['x'], events['y'] = x[inside], y[inside]
    results['events'], results['sensor_size'] = events, tuple(size)
    if 'gt_bboxes' in results:
        _move_boxes(results, matrix, offset, height, width)
    if 'gt_seg_map' in results:
        results['gt_seg_map'] = _move_map(results['gt_seg_map'], matrix, offset, height, width)
    return results


def _move_boxes(results: dict, matrix: np.ndarray, offset: np.ndarray, height: int, width: int) -> None:
    boxes = results['gt_bboxes']
    if isinstance(boxes, np.ndarray):
        corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]] @ matrix.T + offset
        boxes = np.concatenate([corners.min(1), corners.max(1)], 1).clip(0, [width, height, width, height])
        boxes = boxes.astype(results['gt_bboxes'].dtype)
        sides = boxes[:, 2:] - boxes[:, :2]
    else:  # mmdet's box types
        boxes = boxes.clone()
        boxes.project_(np.vstack([np.column_stack([matrix, offset]), [0, 0, 1]]).astype(np.float32))
        boxes.clip_((height, width))
        sides = np.stack([boxes.widths.numpy(), boxes.heights.numpy()], 1)
    left = (sides >= 1).all(1)
    results['gt_bboxes'] = boxes[left]
    for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
        if key in results:
            results[key] = results[key][left]


def _move_map(labels: np.ndarray, matrix: np.ndarray, offset: np.ndarray, height: int, width: int) -> np.ndarray:
    """Each pixel takes the label of the place that its middle comes from."""
    middles = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + 0.5
    x, y = np.moveaxis(np.floor((middles - offset) @ np.linalg.inv(matrix).T).astype(int), -1, 0)
    inside = (x >= 0) & (x < labels.shape[1]) & (y >= 0) & (y < labels.shape[0])
    moved = np.full((height, width), IGNORED, labels.dtype)
    moved[inside] = labels[y[inside], x[inside]]
    return moved
