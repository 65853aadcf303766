"""Frames of events with more than two channels, as published detectors take them.

As :class:`EventsToFrames` they take ``events``, ``sensor_size`` and, where a sample has one, its ``window`` (start and end in
us; else the time runs from the first event to the last), and give ``img`` [H, W, T C].
"""

import numpy as np
from mmcv.transforms import BaseTransform

from mmspike.registry import TRANSFORMS

from .transforms import check_steps, set_frames, steps_of


class _Frames(BaseTransform):
    """Frames [T, C, H, W] of a window in T equal parts."""

    def __init__(self, T: int) -> None:
        check_steps(T)
        self.T = T

    def transform(self, results: dict) -> dict:
        events = results.pop('events')
        window = results.get('window')
        if window is None:
            window = (int(events['t'][0]), int(events['t'][-1]) + 1) if len(events) else (0, 1)
        return set_frames(results, self.frames(events, window, *results['sensor_size']))

    def frames(self, events: np.ndarray, window: tuple[int, int], height: int, width: int) -> np.ndarray:
        """float32 [T, C, H, W]."""
        raise NotImplementedError


def _counts(events: np.ndarray, plane: np.ndarray, planes: int, height: int, width: int) -> np.ndarray:
    """How many events a pixel has in each plane, [planes, H, W]."""
    cells = (plane * height + events['y']) * width + events['x']
    return np.bincount(cells, minlength=planes * height * width).reshape(planes, height, width)


@TRANSFORMS.register_module()
class EventsToVoxelCube(_Frames):
    """Whether a pixel has events of a polarity in each of a step's parts: 0 and 1 (arXiv 2205.04339, SFOD).

    Time 0 is the start of the window; SFOD's is the first event.

    Args:
        T: Time steps.
        micro_bins: Parts of a step.

    Shape:
        2 ``micro_bins`` channels a step: OFF and ON of the first part, OFF and ON of the second, …

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import EventsToVoxelCube
        >>> events = np.zeros(3, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['t'] = [0, 60, 61]
        >>> EventsToVoxelCube(T=1)(dict(events=events, sensor_size=(8, 16), window=(0, 100)))['img'][0, 0]
        array([1., 0., 1., 0.], dtype=float32)
    """

    def __init__(self, T: int = 5, micro_bins: int = 2) -> None:
        super().__init__(T)
        if micro_bins < 1:
            raise ValueError(f'micro_bins must be at least 1, got {micro_bins}')
        self.micro_bins = micro_bins

    def frames(self, events: np.ndarray, window: tuple[int, int], height: int, width: int) -> np.ndarray:
        parts = self.T * self.micro_bins
        plane = steps_of(events['t'], window, parts) * 2 + events['p']
        counts = _counts(events, plane, 2 * parts, height, width)
        return (counts > 0).reshape(self.T, 2 * self.micro_bins, height, width).astype(np.float32)


@TRANSFORMS.register_module()
class EventsToHistogram(_Frames):
    """Counts of events by polarity and part of a step, up to a limit (the stacked histogram of RVT, CVPR 2023).

    Args:
        T: Time steps.
        bins: Parts of a step.
        limit: Larger counts are this.

    Shape:
        2 ``bins`` channels a step: OFF of all parts, ON of all parts.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import EventsToHistogram
        >>> events = np.zeros(30, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> EventsToHistogram(bins=2)(dict(events=events, sensor_size=(8, 16), window=(0, 100)))['img'][0, 0]
        array([10.,  0.,  0.,  0.], dtype=float32)
    """

    def __init__(self, T: int = 1, bins: int = 10, limit: int = 10) -> None:
        super().__init__(T)
        if bins < 1 or limit < 1:
            raise ValueError(f'bins and limit must be at least 1, got {bins} and {limit}')
        self.bins, self.limit = bins, limit

    def frames(self, events: np.ndarray, window: tuple[int, int], height: int, width: int) -> np.ndarray:
        step, part = divmod(steps_of(events['t'], window, self.T * self.bins), self.bins)
        plane = (step * 2 + events['p']) * self.bins + part
        counts = _counts(events, plane, 2 * self.T * self.bins, height, width)
        return np.minimum(counts, self.limit).reshape(self.T, 2 * self.bins, height, width).astype(np.float32)


@TRANSFORMS.register_module()
class EventsToLastPolarity(_Frames):
    """The polarity of a pixel's last event in each step: 1 ON, 0 OFF, 127 / 255 none (SpikeYOLO's input for GEN1).

    Args:
        T: Time steps; the newest is the last.
        channels: Equal channels.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import EventsToLastPolarity
        >>> events = np.zeros(2, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['p'][1] = 1
        >>> img = EventsToLastPolarity(T=1, channels=1)(dict(events=events, sensor_size=(8, 16), window=(0, 100)))['img']
        >>> float(img[0, 0, 0]), round(float(img[1, 1, 0]), 3)
        (1.0, 0.498)
    """

    NONE = 127 / 255

    def __init__(self, T: int = 2, channels: int = 3) -> None:
        super().__init__(T)
        if channels < 1:
            raise ValueError(f'channels must be at least 1, got {channels}')
        self.channels = channels

    def frames(self, events: np.ndarray, window: tuple[int, int], height: int, width: int) -> np.ndarray:
        frames = np.full((self.T, height, width), self.NONE, np.float32)
        # of several values for one place numpy keeps the last
        frames[steps_of(events['t'], window, self.T), events['y'], events['x']] = events['p']
        return np.repeat(frames[:, None], self.channels, 1)
