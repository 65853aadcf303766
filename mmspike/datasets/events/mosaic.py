"""Four windows of events side by side."""

import copy
from collections.abc import Sized

import numpy as np
from mmcv.transforms import BaseTransform

from mmspike.registry import TRANSFORMS

from .moving import check_annotations, move

LABELS = ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags')


@TRANSFORMS.register_module()
class EventMosaic(BaseTransform):
    """Four windows in the quarters of one sensor, each shrunk towards the point where they meet; boxes and label maps follow.

    For the ``MultiImageMixDataset`` of mmdet and mmseg, whose inner pipeline loads events and annotations and ends before
    the events become frames. The times of all four are moved to the window of the first.

    Args:
        scale: Smallest and largest factor by which a window is shrunk.
        centre: From where to where in the sensor the point lies at which they meet, as parts of height and width.
        prob: How often it is applied.

    Raises:
        ValueError: A window has another sensor size than the first.
    """

    def __init__(
        self, scale: tuple[float, float] = (0.5, 1.0), centre: tuple[float, float] = (0.3, 0.7), prob: float = 1.0
    ) -> None:
        if not 0 < scale[0] <= scale[1] or not 0 < centre[0] <= centre[1] < 1:
            raise ValueError(f'scale must be two positive factors, centre two parts between 0 and 1, got {scale} and {centre}')
        self.scale, self.centre, self.prob = scale, centre, prob

    def get_indexes(self, dataset: Sized) -> list[int]:
        """Three other windows, for mmdet."""
        return [int(np.random.randint(len(dataset))) for _ in range(3)]

    get_indices = get_indexes  # as mmseg calls it

    def transform(self, results: dict) -> dict:
        check_annotations(results, type(self).__name__)
        if np.random.rand() >= self.prob:
            return results
        size = height, width = results['sensor_size']
        middle = np.random.uniform(*self.centre, 2) * (width, height)
        x, y = np.rint(middle).astype(int).tolist()
        quarters = []
        for number, source in enumerate([results, *results['mix_results']]):
            if tuple(source['sensor_size']) != tuple(size):
                raise ValueError(f'EventMosaic got windows of sensors of {size} and {source["sensor_size"]} px')
            source = copy.copy(source)
            right, below = number % 2, number // 2
            corner = np.array([0 if right else width, 0 if below else height])  # which comes to lie in the middle
            factor = np.random.uniform(*self.scale)
            # in a picture of the quarter's size alone, so that boxes end where it does
            extent = (height - y if below else y, width - x if right else x)
            meeting = np.array([0 if right else x, 0 if below else y])
            move(source, factor * np.eye(2), meeting - factor * corner, extent)
            quarters.append((source, x if right else 0, y if below else 0))
        return self._joined(results, quarters, size)

    @staticmethod
    def _joined(results: dict, quarters: list[tuple[dict, int, int]], size: tuple[int, int]) -> dict:
        events, start = [], results['window'][0] if 'window' in results else 0
        for source, x, y in quarters:
            moved = source['events'].copy()
            moved['x'] += x
            moved['y'] += y
            moved['t'] += start - (source['window'][0] if 'window' in source else 0)
            events.append(moved)
        joined = np.concatenate(events)
        results['events'] = joined[np.argsort(joined['t'], kind='stable')]
        if 'gt_seg_map' in results:
            labels = np.zeros(size, results['gt_seg_map'].dtype)
            for source, x, y in quarters:
                quarter = source['gt_seg_map']
                labels[y : y + quarter.shape[0], x : x + quarter.shape[1]] = quarter
            results['gt_seg_map'] = labels
        if 'gt_bboxes' in results:
            boxes = []
            for source, x, y in quarters:
                if isinstance(source['gt_bboxes'], np.ndarray):
                    boxes.append(source['gt_bboxes'] + np.array([x, y, x, y]))
                else:
                    source['gt_bboxes'].translate_((x, y))
                    boxes.append(source['gt_bboxes'])
            first = boxes[0]
            results['gt_bboxes'] = np.concatenate(boxes) if isinstance(first, np.ndarray) else first.cat(boxes)
            for key in LABELS[1:]:
                if key in results:
                    results[key] = np.concatenate([source[key] for source, _, _ in quarters])
        return results
