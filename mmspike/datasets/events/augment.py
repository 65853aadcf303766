"""Changes of a recording's events, and of boxes and label maps where they move."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmspike.registry import TRANSFORMS

from .moving import check_annotations, move

DROPS = ('time', 'area', 'random')


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
        check_annotations(results, type(self).__name__)
        if np.random.rand() >= self.prob:
            return results
        height, width = results['sensor_size']
        angle, shear = np.deg2rad(np.random.uniform(-1, 1, 2) * (self.degrees, self.shear))
        factor = np.random.uniform(*self.scale)
        shift = np.random.uniform(-1, 1, 2) * self.translate * (width, height)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = factor * turn @ np.array([[1, np.tan(shear)], [0, 1]])
        middle = np.array([width, height]) / 2
        return move(results, matrix, middle + shift - matrix @ middle)


@TRANSFORMS.register_module()
class RandomEventFlip(BaseTransform):
    """Mirror a recording, with boxes and label maps as in :class:`RandomEventAffine`.

    Args:
        prob: How often.
        direction: 'horizontal' or 'vertical'.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import RandomEventFlip
        >>> events = np.zeros(1, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> results = dict(events=events, sensor_size=(8, 16), gt_bboxes=np.array([[0.0, 1.0, 4.0, 5.0]]))
        >>> results = RandomEventFlip(prob=1.0)(results)
        >>> results['events']['x'].tolist(), results['gt_bboxes'].tolist()
        ([15], [[12.0, 1.0, 16.0, 5.0]])
    """

    def __init__(self, prob: float = 0.5, direction: str = 'horizontal') -> None:
        if direction not in ('horizontal', 'vertical'):
            raise ValueError(f"direction={direction!r}: expected 'horizontal' or 'vertical'")
        self.prob = prob
        self.direction = direction

    def transform(self, results: dict) -> dict:
        check_annotations(results, type(self).__name__)
        if np.random.rand() >= self.prob:
            return results
        height, width = results['sensor_size']
        signs, offset = ((-1, 1), (width, 0)) if self.direction == 'horizontal' else ((1, -1), (0, height))
        return move(results, np.diag(signs).astype(float), np.array(offset, float), jitter=False)


@TRANSFORMS.register_module()
class RandomEventZoom(BaseTransform):
    """Magnify a part of the sensor, or shrink all of it, as RVT (CVPR 2023) augments GEN1; boxes and label maps follow.

    Args:
        zoom_in: Smallest and largest factor; the part that is magnified lies anywhere.
        zoom_out: Smallest and largest divisor; the shrunk picture lies anywhere.
        weights: How often it is the one and the other.
        prob: How often it is applied.
    """

    def __init__(
        self,
        zoom_in: tuple[float, float] = (1.0, 1.5),
        zoom_out: tuple[float, float] = (1.0, 1.2),
        weights: tuple[float, float] = (8.0, 2.0),
        prob: float = 0.8,
    ) -> None:
        if not (1 <= zoom_in[0] <= zoom_in[1] and 1 <= zoom_out[0] <= zoom_out[1]):
            raise ValueError(f'zoom_in and zoom_out must be two numbers from 1 on in order, got {zoom_in} and {zoom_out}')
        if min(weights) < 0 or not sum(weights):
            raise ValueError(f'weights must be two numbers from 0 on, not both 0, got {weights}')
        self.zoom_in, self.zoom_out = zoom_in, zoom_out
        self.inwards = weights[0] / sum(weights)
        self.prob = prob

    def transform(self, results: dict) -> dict:
        check_annotations(results, type(self).__name__)
        if np.random.rand() >= self.prob:
            return results
        inwards = np.random.rand() < self.inwards
        factor = np.random.uniform(*self.zoom_in) if inwards else 1 / np.random.uniform(*self.zoom_out)
        height, width = results['sensor_size']
        offset = np.random.rand(2) * (1 - factor) * np.array([width, height])
        return move(results, factor * np.eye(2), offset)


@TRANSFORMS.register_module()
class RandomEventCrop(BaseTransform):
    """Cut a part out of the sensor, anywhere; boxes and label maps follow.

    Args:
        size: Height and width in px; a sensor that is smaller is left as it is in that direction.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f'size must be height and width in px, got {size}')
        self.size = tuple(size)

    def transform(self, results: dict) -> dict:
        check_annotations(results, type(self).__name__)
        whole = results['sensor_size']
        size = tuple(min(wanted, side) for wanted, side in zip(self.size, whole, strict=True))
        top, left = (np.random.randint(side - wanted + 1) for wanted, side in zip(size, whole, strict=True))
        return move(results, np.eye(2), np.array([-left, -top], float), size, jitter=False)


@TRANSFORMS.register_module()
class DownscaleEvents(BaseTransform):
    """Take squares of ``factor`` x ``factor`` pixels for one, as RVT (CVPR 2023) does with 1 Mpx; boxes follow.

    No event is lost. The sample keeps the sensor's size as ``ori_shape`` and the ``scale_factor``, so that boxes are found in
    the sensor's pixels.

    Args:
        factor: Side of a square.

    Raises:
        ValueError: There are masks or a label map, which would be scored in another size than it is found in.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import DownscaleEvents
        >>> events = np.zeros(1, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['x'] = 13
        >>> results = DownscaleEvents()(dict(events=events, sensor_size=(8, 16), gt_bboxes=np.array([[0.0, 1.0, 4.0, 5.0]])))
        >>> results['events']['x'].tolist(), results['gt_bboxes'].tolist(), results['sensor_size']
        ([6], [[0.0, 0.5, 2.0, 2.5]], (4, 8))
    """

    def __init__(self, factor: int = 2) -> None:
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
            raise ValueError(f'factor must be a whole number of pixels from 2 on, got {factor!r}')
        self.factor = factor

    def transform(self, results: dict) -> dict:
        check_annotations(results, type(self).__name__)
        if 'gt_seg_map' in results:
            raise ValueError('DownscaleEvents is for boxes: a label map would be scored in another size than it is found in')
        size = results['sensor_size']
        results['ori_shape'], results['scale_factor'] = tuple(size), (1 / self.factor, 1 / self.factor)
        smaller = tuple(-(-side // self.factor) for side in size)
        return move(results, np.eye(2) / self.factor, np.zeros(2), smaller, jitter=False)


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
