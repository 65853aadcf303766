"""Random changes of a recording's events, and of boxes and label maps where they move."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmspike.registry import TRANSFORMS

DROPS = ('time', 'area', 'random')
IGNORED = 255  # the label of a map's pixels that come from outside


@TRANSFORMS.register_module()
class RandomEventAffine(BaseTransform):
    """Turn, scale, shear and shift the events of a recording about the middle of the sensor; what leaves it is lost.

    Every event first takes a random place within its pixel, so that a magnified picture has no gaps. Boxes ``gt_bboxes``
    (mmdet's, or an array [N, 4] of x1, y1, x2, y2 in px) become the upright boxes around theirs, cut at the sensor; those of
    which less than a pixel is left are lost, with their ``gt_bboxes_labels`` and ``gt_ignore_flags``. A label map
    ``gt_seg_map`` [H, W] moves too; what comes from outside is 255.

    Args:
        degrees: Largest angle, either way.
        translate: Largest shift, as a part of height and width, either way.
        scale: Smallest and largest factor.
        shear: Largest angle of the columns, in degrees, either way.
        prob: How often it is applied.

    Raises:
        ValueError: There are masks, or annotations that are loaded only later: they would stay where they are.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import RandomEventAffine
        >>> events = np.zeros(100, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['t'] = np.arange(100)
        >>> results = RandomEventAffine(translate=0.0, degrees=0.0, prob=1.0)(dict(events=events, sensor_size=(8, 16)))
        >>> len(results['events'])
        100
    """

    def __init__(
        self,
        degrees: float = 0.0,
        translate: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        shear: float = 0.0,
        prob: float = 1.0,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f'scale must be two positive factors in order, got {scale}')
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.prob = prob

    def transform(self, results: dict) -> dict:
        self._check_annotations(results)
        if np.random.rand() >= self.prob:
            return results
        events = results['events'].copy()
        height, width = results['sensor_size']
        angle, shear = np.deg2rad(np.random.uniform(-1, 1, 2) * (self.degrees, self.shear))
        factor = np.random.uniform(*self.scale)
        shift = np.random.uniform(-1, 1, 2) * self.translate * (width, height)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = factor * turn @ np.array([[1, np.tan(shear)], [0, 1]])
        middle = np.array([width, height]) / 2
        offset = middle + shift - matrix @ middle
        places = np.stack([events['x'], events['y']], 1) + np.random.rand(len(events), 2)
        x, y = np.floor(places @ matrix.T + offset).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        events = events[inside]
        events['x'], events['y'] = x[inside], y[inside]
        results['events'] = events
        if 'gt_bboxes' in results:
            self._move_boxes(results, matrix, offset, height, width)
        if 'gt_seg_map' in results:
            results['gt_seg_map'] = _move_map(results['gt_seg_map'], matrix, offset)
        return results

    @staticmethod
    def _check_annotations(results: dict) -> None:
        if 'gt_masks' in results:
            raise ValueError('RandomEventAffine moves boxes and label maps, but no gt_masks: leave one of them out')
        if (results.get('instances') and 'gt_bboxes' not in results) or (
            results.get('seg_map_path') and 'gt_seg_map' not in results
        ):
            raise ValueError('RandomEventAffine stands before the annotations are loaded: put LoadAnnotations before it')

    @staticmethod
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


def _move_map(labels: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Each pixel takes the label of the place that its middle comes from."""
    height, width = labels.shape
    middles = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + 0.5
    x, y = np.moveaxis(np.floor((middles - offset) @ np.linalg.inv(matrix).T).astype(int), -1, 0)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved = np.full_like(labels, IGNORED)
    moved[inside] = labels[y[inside], x[inside]]
    return moved


@TRANSFORMS.register_module()
class RandomEventDrop(BaseTransform):
    """Leave out a part of the events: those of a while, of an area, or some at random (EventDrop, arXiv 2106.05836).

    Args:
        ratio: Smallest and largest part: of the duration, of either side of the area (whose part is the square), of the events.
        kinds: Which of 'time', 'area' and 'random' are drawn from.
        prob: How often it is applied.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import RandomEventDrop
        >>> events = np.zeros(100, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['t'] = np.arange(100)
        >>> results = RandomEventDrop(ratio=(0.5, 0.5), kinds=('time',), prob=1.0)(dict(events=events, sensor_size=(8, 16)))
        >>> len(results['events'])
        50
    """

    def __init__(self, ratio: tuple[float, float] = (0.1, 0.5), kinds: tuple[str, ...] = DROPS, prob: float = 0.5) -> None:
        if not 0 <= ratio[0] <= ratio[1] < 1:
            raise ValueError(f'ratio must be two parts in order, from 0 to below 1, got {ratio}')
        if not kinds or not set(kinds) <= set(DROPS):
            raise ValueError(f'kinds={kinds}: expected some of {DROPS}')
        self.ratio = ratio
        self.kinds = tuple(kinds)
        self.prob = prob

    def transform(self, results: dict) -> dict:
        events = results['events']
        if np.random.rand() >= self.prob or not len(events):
            return results
        drop = self.kinds[np.random.randint(len(self.kinds))]
        part = np.random.uniform(*self.ratio)
        if drop == 'random':
            dropped = np.random.rand(len(events)) < part
        elif drop == 'time':
            dropped = self._within(events['t'] - events['t'][0], events['t'][-1] - events['t'][0] + 1, part)
        else:
            height, width = results['sensor_size']
            dropped = self._within(events['x'], width, part) & self._within(events['y'], height, part)
        results['events'] = events[~dropped]
        return results

    @staticmethod
    def _within(values: np.ndarray, length: int, part: float) -> np.ndarray:
        """True where a value lies in a random stretch of ``part`` of [0, length)."""
        start = np.random.uniform(0, (1 - part) * length)
        return (values >= start) & (values < start + part * length)


@TRANSFORMS.register_module()
class DropHotPixels(BaseTransform):
    """Leave out the events of broken pixels, which fire all the time.

    Args:
        factor: A pixel is hot with more than this many times the mean number of events of the pixels that have any. The
            busiest pixel of ten recordings of DVS128 Gesture has 0.4 % of its events.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import DropHotPixels
        >>> events = np.zeros(100, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['t'] = np.arange(100)
        >>> events['x'][90:] = np.arange(1, 11)  # the other 90 are of one pixel
        >>> results = DropHotPixels(factor=5)(dict(events=events, sensor_size=(8, 16)))
        >>> len(results['events'])
        10
    """

    def __init__(self, factor: float = 100.0) -> None:
        if factor <= 1:
            raise ValueError(f'factor must be above 1 (times the mean), got {factor}')
        self.factor = factor

    def transform(self, results: dict) -> dict:
        events = results['events']
        places = events['y'].astype(np.int64) * results['sensor_size'][1] + events['x']
        counts = np.bincount(places)
        if len(events):
            results['events'] = events[counts[places] <= self.factor * counts[counts > 0].mean()]
        return results
