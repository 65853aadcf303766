"""Filters of what a sensor sends without anything that happens: broken pixels, noise, and echoes of one event.

They leave events out and change none; boxes and label maps stay as they are.
"""

import numpy as np
from mmcv.transforms import BaseTransform

from mmspike.registry import TRANSFORMS

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]  # rows and columns away


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


@TRANSFORMS.register_module()
class DropBackgroundActivity(BaseTransform):
    """Leave out events that no neighbour supports, which is what noise does: the background activity filter.

    An event stays if at least ``support`` of the 8 pixels around it had an event, of either polarity, at the same time or up
    to ``duration`` before (Delbruck 2008, "Frame-free dynamic digital vision", with the time of the last event of each pixel).
    Events at the beginning of a window have nothing before them: more of those are left out.

    Args:
        duration: How long a neighbour's event counts, in us.
        support: Smallest number of such neighbours, 1 to 8.
        refractory: Before that, events less than so many us behind another one of the same pixel are left out. 0: none.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import DropBackgroundActivity
        >>> events = np.zeros(3, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['t'], events['x'] = [0, 900, 950], [4, 5, 9]
        >>> results = DropBackgroundActivity(duration=1000)(dict(events=events, sensor_size=(8, 16)))
        >>> results['events']['t'].tolist()
        [900]
    """

    def __init__(self, duration: int = 10_000, support: int = 1, refractory: int = 0) -> None:
        if duration < 1 or not 1 <= support <= len(NEIGHBOURS) or refractory < 0:
            raise ValueError(
                'expected a positive duration (us), a support of 1 to 8 pixels and a refractory time from 0 us on, got '
                f'{duration}, {support} and {refractory}'
            )
        self.duration, self.support, self.refractory = duration, support, refractory

    def transform(self, results: dict) -> dict:
        events = results['events']
        if not len(events):
            return results
        # one number an event, by pixel and then time; a column on either side keeps rows apart
        width = results['sensor_size'][1] + 2
        t = events['t'] - events['t'].min() + self.duration
        span = int(t.max()) + 1
        keys = ((events['y'].astype(np.int64) + 1) * width + events['x'] + 1) * span + t
        order = np.argsort(keys, kind='stable')
        keys = keys[order]
        if self.refractory:
            apart = np.diff(keys, prepend=-self.refractory) >= self.refractory
            apart[1:] |= keys[1:] // span != keys[:-1] // span  # of another pixel
            keys, order = keys[apart], order[apart]
        results['events'] = events[np.sort(order[self._supported(keys, width, span)])]
        return results

    def _supported(self, keys: np.ndarray, width: int, span: int) -> np.ndarray:
        """Which of the ascending ``keys`` have enough neighbours."""
        undecided, found = np.arange(len(keys)), np.zeros(len(keys), np.int8)
        beyond = np.append(keys, np.iinfo(np.int64).max)
        for dy, dx in NEIGHBOURS:
            theirs = keys[undecided] + (dy * width + dx) * span
            found[undecided] += beyond[np.searchsorted(keys, theirs - self.duration)] <= theirs
            undecided = undecided[found[undecided] < self.support]
        return found >= self.support
