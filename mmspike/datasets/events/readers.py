"""Recordings of event cameras as arrays of events.

The events of an intact file are those of spikingjelly's readers, except where these count what is not an event: overflow
marks of ATIS files, AEDAT 3.1 events marked invalid and unused room of its packets, external events of AEDAT 2.0, which they
read of a DVS128 only. A broken file is named, with the place: a recording that breaks off would otherwise be taken for a
short one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from .aedat import read_aedat
from .aedat4 import VERSION, Aedat4Stream
from .ddd17 import Ddd17Stream
from .hdf5 import Hdf5Stream
from .prophesee import DatStream, open_raw
from .recording import Block, gather, named, unreadable
from .stream import ENDLESS, EventStream, Part

CHUNK = 2**16  # events of a .bin file decoded at once


def _read_atis(path: Path) -> tuple[Iterator[Block], int]:
    raw = np.fromfile(path, np.uint8)
    if raw.size % 5:
        raise ValueError(f'{raw.size} bytes are no whole number of events of 5 bytes: it is cut off')
    return _decode_atis(raw.reshape(-1, 5)), 2**23


def _decode_atis(raw: np.ndarray) -> Iterator[Block]:
    """N-MNIST and N-Caltech101: 5 bytes an event, x8 y8 p1 t23.

    Row 240 is not a pixel: it marks a wrap of the camera's counter, after which 2^13 us are added (as ``read_dataset`` of
    github.com/gorchard/event-Python, by the data sets' author).
    """
    marks = 0
    for start in range(0, len(raw), CHUNK):
        x, y, high, middle, low = raw[start : start + CHUNK].T
        t = (high & 127).astype(np.int32) << 16
        t |= middle.astype(np.int32) << 8
        t |= low
        if marks:
            t = t + np.int64(marks << 13)
        wraps = y == 240
        if not wraps.any():
            yield t, x, y, high > 127
            continue
        t = t + (np.cumsum(wraps) << 13)
        marks += int(wraps.sum())
        keep = ~wraps
        yield t[keep], x[keep], y[keep], high[keep] > 127


def load_npz(path: Path, keys: Sequence[str]) -> list[np.ndarray]:
    """The arrays ``keys`` of an archive."""
    with np.load(path) as arrays:
        missing = [key for key in keys if key not in arrays]
        if missing:
            raise ValueError(f'it has the arrays {arrays.files}, expected {list(keys)}')
        return [arrays[key] for key in keys]


def _read_npz(path: Path) -> tuple[Iterable[Block], int]:
    """Arrays t, x, y, p of one length, as spikingjelly and many others write."""
    t, x, y, p = load_npz(path, ('t', 'x', 'y', 'p'))
    lengths = [v.size for v in (t, x, y, p)]
    if len(set(lengths)) > 1:
        raise ValueError(f't, x, y and p have different lengths: {lengths}')
    return [(t, x, y, p)], 2 ** (8 * min(t.dtype.itemsize, 4) if t.dtype.kind in 'iu' else 32)


# what is decoded as a whole: a reader gives blocks of events, and what the format's clock counts to, in us
WHOLE: dict[str, Callable[[Path], tuple[Iterable[Block], int]]] = {
    '.bin': _read_atis,
    '.aedat': read_aedat,
    '.npz': _read_npz,
}
# what is read in part
STREAMS: dict[str, Callable[..., EventStream]] = {
    '.dat': DatStream,
    '.raw': open_raw,
    '.h5': Hdf5Stream,
    '.hdf5': Hdf5Stream,
    '.aedat4': Aedat4Stream,
    '.t': Ddd17Stream,
}
#: endings of the files that are read
READ = (*WHOLE, *STREAMS)
#: endings of other files of events -> what to do with them
UNREAD = {
    '.es': 'convert it with the package event-stream or faery',
    '.bag': 'convert it with the package rosbags',
    '.mat': 'convert it with scipy.io.loadmat',
    '.npy': 'store its fields as arrays',
    '.hdf': "convert it with Prophesee's metavision_file_to_dat",
}


class WholeStream(EventStream):
    """A recording of a format that is decoded as a whole, when its events are first asked for."""

    @cached_property
    def _events(self) -> np.ndarray:
        blocks, clock_period = WHOLE[self.path.suffix.lower()](self.path)
        return gather(blocks, clock_period, self.sensor_size)

    def between(self, start: int, end: int) -> np.ndarray:
        with named(self.path):
            events = self._events
        first, last = np.searchsorted(events['t'], (start, end))
        return events[first:last].copy()

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        yield (0, len(self._events), 0), self._block()

    def _decode(self, part: Part) -> Block:
        return self._block()

    def _block(self) -> Block:
        events = self._events
        return events['t'], events['x'], events['y'], events['p']


def open_events(path: str | Path, sensor_size: tuple[int, int] | None = None, index: np.ndarray | None = None) -> EventStream:
    """A recording to read in part.

    Args:
        path: ``.dat``, ``.raw`` (EVT 2.0; 3.0 with the package evt3), ``.h5`` or ``.hdf5`` (DSEC, RVT; packages h5py and
            hdf5plugin), ``.aedat4`` (package aedat), ``.t`` (DDD17 as arrays), or what :func:`read_events` reads as a whole.
        sensor_size: Height and width in px, where the file does not say.
        index: ``EventStream.index`` of an earlier time, which saves a pass over the file.

    Raises:
        RecordingError: (a ValueError) The file is missing, of another format, cut off, or of a sensor of another size.
        MissingPackage: (an ImportError) The package of this format is not installed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), 'drive_td.dat')
        >>> records = np.array([[10, 3 | 5 << 14], [400, 3 | 6 << 14 | 1 << 28], [900, 7]], '<u4')  # t; x, y, polarity
        >>> path.write_bytes(b'% Height 240\\n% Width 304\\n' + bytes([0, 8]) + records.tobytes())
        51
        >>> with open_events(path) as stream:
        ...     print(stream.count, stream.span, stream.between(400, 900)['x'])
        3 (10, 900) [3]
    """
    path = Path(path)
    suffix = path.suffix.lower()
    with named(path):
        if suffix not in READ:
            raise ValueError(_refusal(suffix))
        if not path.is_file():
            raise FileNotFoundError('there is no such file')
        suffix = '.aedat4' if _is_aedat4(path) else suffix
        stream = STREAMS.get(suffix, WholeStream)(path, index)
        if sensor_size is not None:
            if stream.sensor_size not in (None, tuple(sensor_size)):
                raise ValueError(f'its sensor has {_px(stream.sensor_size)}, expected {_px(sensor_size)} (height x width)')
            stream.sensor_size = sensor_size[0], sensor_size[1]
    return stream


def _px(size: Sequence[int]) -> str:
    return f'{size[0]} x {size[1]} px'


def _refusal(suffix: str) -> str:
    hint = UNREAD.get(suffix)
    return (
        f'files of events end with one of {", ".join(READ)}. '
        + (f'To read {suffix}, {hint}, ' if hint else 'Convert others ')
        + 'to .npz with the arrays t (us), x, y, p'
    )


def read_events(
    path: str | Path, sensor_size: tuple[int, int] | None = None, interval: tuple[int, int] | None = None
) -> np.ndarray:
    """Events of a recording in order of time.

    Args:
        path: ``.bin`` (ATIS, 40 bits an event), ``.aedat`` (2.0 of a DVS128, turned as CIFAR10-DVS needs it, or of a DAVIS;
            3.1), ``.npz`` (arrays t, x, y, p: whole us, whole px, polarity as 0 and 1, -1 and 1 or bool), or what
            :func:`open_events` takes; of long recordings that reads parts.
        sensor_size: Height and width in px; an event outside is an error. None: not checked.
        interval: Only events with start <= t < end, in us of the recording's clock.

    Returns:
        An array of ``EVENT`` (fields t in us, x, y, p), at least one.

    Raises:
        RecordingError: (a ValueError) The file is missing, of another format, cut off or empty, or holds what is not an
            event; the message has its name. Neither ``.bin`` nor AEDAT 2.0 say how long they are: a file cut off just between
            two events is a shorter recording.

    Example:
        >>> events = read_events('Train/0/00002.bin', sensor_size=(34, 34))
        >>> duration = events['t'].max() - events['t'].min()  # us
    """
    path = Path(path)
    if path.is_dir():
        raise unreadable(path, 'it is a folder: files of events lie in the folder of their class, not deeper')
    if path.suffix.lower() in WHOLE and not _is_aedat4(path):
        with named(path):
            blocks, clock_period = WHOLE[path.suffix.lower()](path)
            events = gather(blocks, clock_period, sensor_size, interval)
    else:
        with open_events(path, sensor_size) as stream:
            events = stream.between(*((-ENDLESS, ENDLESS) if interval is None else interval))
    if not len(events):
        raise unreadable(
            path, 'it has no events' if interval is None else f'it has no events from {interval[0]} to {interval[1]} us'
        )
    return events


def _is_aedat4(path: Path) -> bool:
    """True for an AEDAT 4 file, whatever its name."""
    if path.suffix.lower() != '.aedat' or not path.is_file():
        return False
    with path.open('rb') as file:
        return file.read(len(VERSION)) == VERSION
