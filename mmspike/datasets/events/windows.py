"""Samples of recordings with labels in time: windows before a label, or sequences of windows that follow each other."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from mmcv.transforms import BaseTransform

from mmspike.datasets.loading import SkipsFaults
from mmspike.registry import TRANSFORMS

from .kept_index import open_indexed
from .recording import RecordingError, named, unreadable

SAMPLES = ('windows', 'sequences')
FIRST_LABEL = 100_000  # us; RVT takes labels from there on
GRID_TOLERANCE = 2000  # us


class Window(NamedTuple):
    """Events with start <= t < end, in us.

    Attributes:
        labelled: There are labels of the time ``end``.
        first: It begins a sequence, before which a membrane rests.
    """

    start: int
    end: int
    labelled: bool = True
    first: bool = True


def label_grid(times: np.ndarray, period: int, first: int = FIRST_LABEL, tolerance: int = GRID_TOLERANCE) -> np.ndarray:
    """Of labelled times those about ``period`` apart, as RVT (CVPR 2023) takes them: GEN1 has labels at 1, 2 and 4 Hz.

    The first one is the first from ``first`` on, and each further one lies within ``tolerance`` of a multiple of ``period``
    behind the one taken before it.

    Args:
        times: Ascending, in us.

    Example:
        >>> label_grid(np.array([20_000, 150_000, 300_000, 401_000, 901_500]), period=250_000)
        array([150000, 401000, 901500])
    """
    taken: list[int] = []
    for t in times.tolist():
        if t < first:
            continue
        away = (t - taken[-1]) % period if taken else 0
        # of a time less than half a period behind, the multiple is the one that was taken
        if not taken or (min(away, period - away) <= tolerance and t - taken[-1] > period // 2):
            taken.append(t)
    return np.array(taken, np.int64)


def windows_before(times: np.ndarray, duration: int) -> list[Window]:
    """One window before each labelled time: the samples of spiking networks that start from rest.

    Example:
        >>> windows_before(np.array([60_000]), 100_000)
        [Window(start=-40000, end=60000, labelled=True, first=True)]
    """
    return [Window(t - duration, t) for t in times.tolist()]


def sequence(times: np.ndarray, duration: int, start: int) -> list[Window]:
    """Windows of about ``duration``, one behind the other, that end at every labelled time: a recording for a memory.

    Between two labelled times lie as many windows as fit best, all alike; before the first one as many whole ones as there
    are events for.

    Args:
        times: Ascending, in us.
        duration: us.
        start: The time from which on there are events.

    Example:
        >>> [(w.start, w.end, w.labelled) for w in sequence(np.array([250_000, 450_000]), 100_000, 0)]
        [(50000, 150000, False), (150000, 250000, True), (250000, 350000, False), (350000, 450000, True)]
    """
    if not len(times):
        return []
    before = max(int(times[0] - start) // duration, 1)
    edges = [int(times[0]) - i * duration for i in range(before, -1, -1)]
    labelled = {int(times[0])}
    for last, t in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        parts = max(round((t - last) / duration), 1)
        edges += [last + (t - last) * i // parts for i in range(1, parts + 1)]
        labelled.add(t)
    return [Window(a, b, b in labelled, first=i == 0) for i, (a, b) in enumerate(zip(edges[:-1], edges[1:], strict=True))]


def check_samples(samples: str, window: int, grid: int | None) -> None:
    """Refuse what no data set can make samples of."""
    if samples not in SAMPLES:
        raise ValueError(f"samples={samples!r}: expected 'windows' (before each label) or 'sequences' (one behind the other)")
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ValueError(f'window={window!r}: expected the duration of a sample in us, a positive integer')
    if grid is not None and grid < window and samples == 'sequences':
        raise ValueError(f'grid={grid} us is shorter than window={window} us: windows that follow each other would overlap')


def make_windows(times: np.ndarray, samples: str, window: int, grid: int | None, start: int = 0) -> Iterator[Window]:
    """The samples of a recording with labels at ``times`` (ascending, us), see :func:`windows_before`, :func:`sequence`."""
    taken = times if grid is None else label_grid(times, grid, start + FIRST_LABEL)
    yield from windows_before(taken, window) if samples == 'windows' else sequence(taken, window, start)


@TRANSFORMS.register_module()
class LoadEventWindow(SkipsFaults, BaseTransform):
    """Read the events of a sample's window.

    Takes ``events_path``, ``window`` (start and end in us), ``sensor_size`` (H, W) and what a data set may give: ``index_path``
    (where the recording's index is kept), ``rectify_path`` (DSEC's map of the lens) and
    ``image_size`` (H, W of the labels: events below and right of it are left out). Adds ``events``, maybe none.

    Args:
        on_error: 'raise', or 'skip' to train without recordings that cannot be read, see :class:`LoadEvents`.

    Raises:
        RecordingError: (a ValueError) The recording is missing, cut off, or of another sensor size; its name is in the message.
    """

    def __init__(self, on_error: str = 'raise') -> None:
        self._set_on_error(on_error)

    def transform(self, results: dict) -> dict | None:
        try:
            with open_indexed(results['events_path'], results.get('index_path'), results['sensor_size']) as stream:
                start, end = results['window']
                first, last = stream.span
                if start - last > end - start or first - end > end - start:
                    raise unreadable(
                        results['events_path'],
                        f'its events are of {first} to {last} us, and the window of a label of {start} to {end} us: it is '
                        'another recording, or of another clock',
                    )
                events = stream.between(start, end)
            if results.get('rectify_path'):
                events = rectify(events, read_rectify_map(results['rectify_path'], results['sensor_size']))
        except RecordingError as error:
            if self.on_error == 'raise':
                raise
            self._skip(str(error).removeprefix('cannot read '))
            return None
        if results.get('image_size') is not None:
            results['sensor_size'] = height, width = results['image_size']
            events = events[(events['y'] < height) & (events['x'] < width)]
        results['events'] = events
        return results


def read_rectify_map(path: str, sensor_size: tuple[int, int]) -> np.ndarray:
    """DSEC's ``rectify_map`` [H, W, 2]: column and row to which the lens' distortion is undone."""
    with named(path):
        try:
            import h5py
        except ImportError:
            raise RecordingError(f'{path} is an HDF5 file: pip install h5py') from None
        with h5py.File(path, 'r') as file:
            if 'rectify_map' not in file or file['rectify_map'].shape != (*sensor_size, 2):
                found = file['rectify_map'].shape if 'rectify_map' in file else list(file)
                raise ValueError(f'it has {found}, expected rectify_map of shape {(*sensor_size, 2)}')
            return file['rectify_map'][()]


def rectify(events: np.ndarray, rectify_map: np.ndarray) -> np.ndarray:
    """Events at the nearest pixel of where ``rectify_map`` puts theirs; those that leave the sensor are lost.

    Example:
        >>> from mmspike.datasets.events.recording import EVENT
        >>> events = np.zeros(2, EVENT)
        >>> events['x'] = [0, 3]
        >>> moved = np.stack(np.meshgrid(np.arange(4), np.arange(2)), -1) + 1.2
        >>> rectify(events, moved)[['x', 'y']].tolist()
        [(1, 1)]
    """
    x, y = np.rint(rectify_map[events['y'], events['x']]).astype(np.int64).T
    height, width = rectify_map.shape[:2]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    events = events[inside]
    events['x'], events['y'] = x[inside], y[inside]
    return events
