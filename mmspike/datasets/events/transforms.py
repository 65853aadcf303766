"""From a recording to frames of events.

Frames lie in ``results['img']`` as one picture [H, W, 2 T], float32 counts of OFF and ON events by time step (OFF of the
first, ON of the first, OFF of the second, …). So the hosts' transforms of pictures work on them: RandomCrop, CenterCrop,
RandomFlip, Resize, Pad.
"""

from collections.abc import Callable

import numpy as np
from mmcv.transforms import BaseTransform

from mmspike.datasets.loading import SkipsFaults
from mmspike.registry import TRANSFORMS

from .readers import read_events, read_frames

MODES = ('count', 'time')
DROPS = ('time', 'area', 'random')


def _check_steps(T: int) -> None:
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ValueError(f'T must be a positive integer (time steps), got {T!r}')


def integrate(events: np.ndarray, sensor_size: tuple[int, int], T: int, by: str, duration: int | None = None) -> np.ndarray:
    """Counts of events in T frames, see :class:`EventsToFrames`; float32 [T, 2, H, W], OFF and ON."""
    height, width = sensor_size
    if by == 'count':
        step = np.arange(len(events)) // max(len(events) // T, 1)
    elif len(events):
        start, end = events['t'][0], events['t'][-1]
        step = (events['t'] - start) // (duration or max((end - start) // T, 1))
    else:
        step = np.zeros(0, np.int64)
    if duration is None:
        step = np.minimum(step, T - 1)
    else:
        events, step = events[step < T], step[step < T]
    x, y, p = (events[key].astype(np.int64) for key in 'xyp')
    cells = ((step * 2 + p) * height + y) * width + x
    return np.bincount(cells, minlength=T * 2 * height * width).reshape(T, 2, height, width).astype(np.float32)


def _set_frames(results: dict, frames: np.ndarray) -> dict:
    height, width = frames.shape[-2:]
    results['img'] = np.ascontiguousarray(frames.reshape(-1, height, width).transpose(1, 2, 0))
    results['img_shape'] = results['ori_shape'] = (height, width)
    return results


class _Loader(SkipsFaults, BaseTransform):
    def _read(self, read: Callable[..., np.ndarray], *args) -> np.ndarray | None:
        """``read(*args)``; None where it fails and recordings that fail are to be skipped."""
        try:
            return read(*args)
        except ValueError as error:
            if self.on_error == 'raise':
                advice = f"or set on_error='skip' in mmspike.{type(self).__name__} to train without it"
                raise ValueError(f'{error}, {advice}') from error
            self._skip(str(error).removeprefix('cannot read '))
            return None


@TRANSFORMS.register_module()
class LoadEvents(_Loader):
    """Read a recording of events.

    Takes ``events_path`` and, where the data set gives them, ``sensor_size`` (H, W) and ``interval`` (start and end in us).
    Adds ``events`` (fields t, x, y, p in order of time) and, without ``sensor_size``, the smallest one that holds them.

    Args:
        on_error: 'raise', or 'skip' to train without recordings that are missing, cut off or corrupt: each is logged and
            counted, ``mmspike.SkippedImagesHook`` reports the count, and another one is drawn. In testing they are errors.

    Raises:
        ValueError: The recording is missing, cut off or corrupt; its name is in the message.
    """

    def __init__(self, on_error: str = 'raise') -> None:
        self._set_on_error(on_error)

    def transform(self, results: dict) -> dict | None:
        events = self._read(read_events, results['events_path'], results.get('sensor_size'), results.get('interval'))
        if events is None:
            return None
        if results.get('sensor_size') is None:
            results['sensor_size'] = (int(events['y'].max()) + 1, int(events['x'].max()) + 1)
        results['events'] = events
        return results


@TRANSFORMS.register_module()
class LoadEventFrames(_Loader):
    """Read T frames of a recording that is frames already: a folder of images, or an ``.npz`` with ``frames``.

    Takes ``events_path``, adds ``img`` [H, W, 2 T].

    Args:
        T: Time steps: one frame from each of T equal parts of the recording.
        random: A random frame of each part (in training), else its middle one.
        channels: Of an image, B, G, R, which show OFF and ON events.
        on_error: See :class:`LoadEvents`.

    Raises:
        ValueError: Nothing there, or an image is broken; its name is in the message.
    """

    def __init__(self, T: int, random: bool = False, channels: tuple[int, int] = (0, 2), on_error: str = 'raise') -> None:
        _check_steps(T)
        self._set_on_error(on_error)
        self.T = T
        self.random = random
        self.channels = tuple(channels)

    def transform(self, results: dict) -> dict | None:
        frames = self._read(read_frames, results['events_path'], self.T, self.random, self.channels)
        return None if frames is None else _set_frames(results, frames)


@TRANSFORMS.register_module()
class EventsToFrames(BaseTransform):
    """Count the events of a recording in T frames, pixel by pixel and polarity by polarity.

    Takes ``events`` and ``sensor_size``, gives ``img`` [H, W, 2 T] and removes ``events``.

    Args:
        T: Time steps.
        by: 'count' puts the same number of events into every frame, 'time' the same duration; the last frame has the rest of
            the division too (as spikingjelly's ``integrate_events_by_fixed_frames_number``).
        duration: With 'time', us of one frame from the first event on: later events are left out, and a recording that is
            too short ends with empty frames. None: the T-th part of the recording.
    """

    def __init__(self, T: int, by: str = 'count', duration: int | None = None) -> None:
        _check_steps(T)
        if by not in MODES:
            raise ValueError(f'by={by!r}: expected one of {MODES}')
        if duration is not None and (by != 'time' or duration < 1):
            raise ValueError(f"duration={duration} us must be positive and goes with by='time', got by={by!r}")
        self.T = T
        self.by = by
        self.duration = duration

    def transform(self, results: dict) -> dict:
        frames = integrate(results.pop('events'), results['sensor_size'], self.T, self.by, self.duration)
        return _set_frames(results, frames)


@TRANSFORMS.register_module()
class RandomEventAffine(BaseTransform):
    """Turn, scale, shear and shift the events of a recording about the middle of the sensor; what leaves it is lost.

    Every event first takes a random place within its pixel, so that a magnified picture has no gaps.

    Args:
        degrees: Largest angle, either way.
        translate: Largest shift, as a part of height and width, either way.
        scale: Smallest and largest factor.
        shear: Largest angle of the columns, in degrees, either way.
        prob: How often it is applied.
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
        places = np.stack([events['x'], events['y']], 1) + np.random.rand(len(events), 2)
        x, y = np.floor((places - middle) @ matrix.T + middle + shift).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        events['x'], events['y'] = x, y
        results['events'] = events[inside]
        return results


@TRANSFORMS.register_module()
class RandomEventDrop(BaseTransform):
    """Leave out a part of the events: those of a while, of an area, or some at random (EventDrop, arXiv 2106.05836).

    Args:
        ratio: Smallest and largest part: of the duration, of either side of the area (whose part is the square), of the events.
        kinds: Which of 'time', 'area' and 'random' are drawn from.
        prob: How often it is applied.
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
        kind = self.kinds[np.random.randint(len(self.kinds))]
        part = np.random.uniform(*self.ratio)
        if kind == 'random':
            dropped = np.random.rand(len(events)) < part
        elif kind == 'time':
            dropped = self._within(events['t'] - events['t'][0], events['t'][-1] - events['t'][0] + 1, part)
        else:
            height, width = results['sensor_size']
            dropped = self._within(events['x'], width, part) & self._within(events['y'], height, part)
        results['events'] = events[~dropped]
        return results

    @staticmethod
    def _within(values: np.ndarray, length: int, part: float) -> np.ndarray:
        """Whether a value lies in a random stretch of ``part`` of [0, length)."""
        start = np.random.uniform(0, (1 - part) * length)
        return (values >= start) & (values < start + part * length)
