"""Recordings of event cameras as arrays of events.

The events of an intact file are those of spikingjelly's readers, except where these count what is not an event: overflow
marks of ATIS files, AEDAT 3.1 events marked invalid and unused room of its packets, external events of AEDAT 2.0, which they
read of a DVS128 only. A broken file is named, with the place: a recording that breaks off would otherwise be taken for a
short one.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .aedat import read_aedat
from .recording import Block, gather, unreadable

CHUNK = 2**20  # events of a .bin file decoded at once


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
        x, y, high, middle, low = raw[start : start + CHUNK].T.astype(np.int32)
        wraps = y == 240
        t = ((high & 127) << 16 | middle << 8 | low) + ((marks + np.cumsum(wraps)) << 13)
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


# a reader gives blocks of events, and what the format's clock counts to, in us
READERS: dict[str, Callable[[Path], tuple[Iterable[Block], int]]] = {
    '.bin': _read_atis,
    '.aedat': read_aedat,
    '.npz': _read_npz,
}
# files of events by their names, which nothing here reads
UNREAD = ('.aedat4', '.raw', '.dat', '.h5', '.hdf5', '.es', '.npy', '.mat', '.bag')

# what numpy raises for files that are not archives or broken ones
FAULTS = (OSError, ValueError, EOFError, KeyError, struct.error, zipfile.BadZipFile, zlib.error)


def read_events(
    path: str | Path, sensor_size: tuple[int, int] | None = None, interval: tuple[int, int] | None = None
) -> np.ndarray:
    """Events of a recording in order of time.

    Args:
        path: ``.bin`` (ATIS, 40 bits an event), ``.aedat`` (2.0 of a DVS128, turned as CIFAR10-DVS needs it, or of a DAVIS;
            3.1) or ``.npz`` (arrays t, x, y, p: whole us, whole px, polarity as 0 and 1, -1 and 1 or bool).
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
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise unreadable(
            path,
            f'files of events end with one of {list(READERS)}. Convert AEDAT 4 (package aedat), EVT3 (package evt3), HDF5 '
            '(package h5py) or others to .npz with t, x, y, p',
        )
    try:
        blocks, clock_period = reader(path)
        events = gather(blocks, clock_period, sensor_size, interval)
    except FAULTS as error:
        raise unreadable(path, error) from error
    if not len(events):
        raise unreadable(
            path, 'it has no events' if interval is None else f'it has no events from {interval[0]} to {interval[1]} us'
        )
    return events
