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

from .frames import read_frames
from .readers import read_events
from .recording import RecordingError

MODES = ('count', 'time')


def check_steps(T: int) -> None:
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ValueError(f'T must be a positive integer (time steps), got {T!r}')


def integrate(
    events: np.ndarray,
    sensor_size: tuple[int, int],
    T: int,
    by: str,
    duration: int | None = None,
    window: tuple[int, int] | None = None,
) -> np.ndarray:
    """Counts of events in T frames, see :class:`EventsToFrames`; float32 [T, 2, H, W], OFF and ON."""
    height, width = sensor_size
    if by == 'count':
        step = np.arange(len(events)) // max(len(events) // T, 1)
    elif window is not None and duration is None:
        step = steps_of(events['t'], window, T)
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


def steps_of(t: np.ndarray, window: tuple[int, int], steps: int) -> np.ndarray:
    """In which of ``steps`` equal parts of a window [start, end) a time lies; what lies outside counts for the nearest."""
    start, end = window
    return np.clip((t - start) * steps // max(end - start, 1), 0, steps - 1)


def set_frames(results: dict, frames: np.ndarray) -> dict:
    """Put frames [T, C, H, W] into a sample as one picture ``img`` [H, W, T C], and ``steps``, their T."""
    steps, _, height, width = frames.shape
    results['img'] = np.ascontiguousarray(frames.reshape(-1, height, width).transpose(1, 2, 0))
    results['steps'], results['img_shape'] = steps, (height, width)
    results.setdefault('ori_shape', (height, width))  # unless events were scaled before
    results.setdefault('scale_factor', (1.0, 1.0))
    return results


class _Loader(SkipsFaults, BaseTransform):
    def _read(self, read: Callable[..., np.ndarray], *args) -> np.ndarray | None:
        """``read(*args)``; None where it fails and recordings that fail are to be skipped."""
        try:
            return read(*args)
        except RecordingError as error:
            if self.on_error == 'raise':
                advice = f"or set on_error='skip' in mmspike.{type(self).__name__} to train without it"
                raise RecordingError(f'{error}, {advice}') from error
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
        RecordingError: (a ValueError) The recording is missing, cut off or corrupt; its name is in the message.
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
        check_steps(T)
        self._set_on_error(on_error)
        self.T = T
        self.random = random
        self.channels = tuple(channels)

    def transform(self, results: dict) -> dict | None:
        frames = self._read(read_frames, results['events_path'], self.T, self.random, self.channels)
        return None if frames is None else set_frames(results, frames)


@TRANSFORMS.register_module()
class EventsToFrames(BaseTransform):
    """Count the events of a recording in T frames, pixel by pixel and polarity by polarity.

    Takes ``events`` and ``sensor_size``, gives ``img`` [H, W, 2 T] and removes ``events``.

    Args:
        T: Time steps.
        by: 'count' puts the same number of events into every frame, 'time' the same duration; the last frame has the rest of
            the division too (as spikingjelly's ``integrate_events_by_fixed_frames_number``). Where a sample has a ``window``,
            time runs from its start to its end, and not from the first event to the last.
        duration: With 'time', us of one frame from the first event on: later events are left out, and a recording that is
            too short ends with empty frames. None: the T-th part of the recording.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events import EventsToFrames
        >>> events = np.zeros(100, dict(names=('t', 'x', 'y', 'p'), formats=('i8', 'i4', 'i4', 'i1')))
        >>> events['t'] = np.arange(100)
        >>> results = EventsToFrames(T=4)(dict(events=events, sensor_size=(8, 16)))
        >>> results['img'].shape
        (8, 16, 8)
    """

    def __init__(self, T: int, by: str = 'count', duration: int | None = None) -> None:
        check_steps(T)
        if by not in MODES:
            raise ValueError(f'by={by!r}: expected one of {MODES}')
        if duration is not None and (by != 'time' or duration < 1):
            raise ValueError(f"duration={duration} us must be positive and goes with by='time', got by={by!r}")
        self.T = T
        self.by = by
        self.duration = duration

    def transform(self, results: dict) -> dict:
        frames = integrate(results.pop('events'), results['sensor_size'], self.T, self.by, self.duration, results.get('window'))
        return set_frames(results, frames)
