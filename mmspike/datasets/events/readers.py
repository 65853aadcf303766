"""Recordings of event cameras as arrays of events, and recordings that are frames already.

Every format gives what spikingjelly's reader gives for an intact file. Ours decode whole packets at once, and say which
file is broken and where: a recording that breaks off would otherwise be taken for a short one.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

#: an event: time in us, column, row, polarity (0: OFF, darker; 1: ON, brighter)
EVENT = np.dtype([('t', np.int64), ('x', np.int16), ('y', np.int16), ('p', np.uint8)])
IMAGES = ('.png', '.jpg', '.jpeg', '.bmp')
DVS128_SIDE = 128  # px


def make_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """An array of ``EVENT`` in order of time; positive ``p`` is ON."""
    events = np.empty(len(t), EVENT)
    events['t'], events['x'], events['y'], events['p'] = t, x, y, np.asarray(p) > 0
    if len(events) and (np.diff(events['t']) < 0).any():
        events = events[np.argsort(events['t'], kind='stable')]
    return events


def _read_atis(path: Path) -> np.ndarray:
    """N-MNIST and N-Caltech101: 5 bytes an event, x8 y8 p1 t23.

    Row 240 is no pixel: it marks a wrap of the camera's counter, after which 2^13 us are added (as ``read_dataset`` of
    github.com/gorchard/event-Python, by the data sets' author).
    """
    raw = np.fromfile(path, np.uint8)
    if raw.size % 5:
        raise ValueError(f'{raw.size} bytes are no whole number of events of 5 bytes: it is cut off')
    x, y, high, middle, low = raw.reshape(-1, 5).astype(np.int64).T
    wraps = y == 240
    t = ((high & 127) << 16 | middle << 8 | low) + (np.cumsum(wraps) << 13)
    keep = ~wraps
    return make_events(t[keep], x[keep], y[keep], high[keep] >> 7)


def _read_aedat(path: Path) -> np.ndarray:
    """AEDAT 2.0 of a DVS128 (CIFAR10-DVS) or AEDAT 3.1 (DVS128 Gesture), by the first line."""
    with path.open('rb') as file:
        version = file.readline(64)
        if version.startswith(b'#!AER-DAT2'):
            position = file.tell()
            while (line := file.readline()).startswith(b'#'):
                position = file.tell()
            file.seek(position)
            return _decode_aedat2(file.read())
        if version.startswith(b'#!AER-DAT3'):
            while not (line := file.readline()).startswith(b'#!END-HEADER'):
                if not line.startswith(b'#'):
                    raise ValueError('the header has no #!END-HEADER')
            return _decode_aedat3(file.read())
    raise ValueError(f'it begins with {version[:16]!r}, expected #!AER-DAT2.0 or #!AER-DAT3.1 (convert AEDAT 4 to .npz)')


def _decode_aedat2(data: bytes) -> np.ndarray:
    """Pairs of big-endian words, address and time in us; address: special1 y7 x7 p1, 0 is ON.

    The sensor stood on its side: as in spikingjelly, the picture is turned upright.
    """
    if len(data) % 8:
        raise ValueError(f'{len(data)} bytes of events are no whole number of events of 8 bytes: it is cut off')
    address, t = np.frombuffer(data, '>u4').reshape(-1, 2).astype(np.int64).T
    pixels = address & 0x8000 == 0  # else an external trigger
    address, t = address[pixels], t[pixels]
    x, y = DVS128_SIDE - 1 - (address >> 8 & 0x7F), DVS128_SIDE - 1 - (address >> 1 & 0x7F)
    return make_events(t, x, y, 1 - (address & 1))


def _decode_aedat3(data: bytes) -> np.ndarray:
    """Packets of a 28-byte header and events; those of polarity are x15 y15 p1 valid1 and a time t31 in us."""
    blocks = []
    position = 0
    while position < len(data):
        if len(data) - position < 28:
            raise ValueError(f'it is cut off in the packet header at byte {position} after the file header')
        kind, _, size, _, overflow, capacity, number, _ = struct.unpack_from('<HHIIIIII', data, position)
        start, position = position + 28, position + 28 + capacity * size
        if position > len(data) or number > capacity or (kind == 1 and size != 8):
            raise ValueError(
                f'the packet at byte {start - 28} after the file header should hold {number} of {capacity} events of {size} '
                f'bytes, but only {len(data) - start} bytes follow: it is cut off or corrupt'
            )
        if kind == 1:  # polarity events; others are triggers, frames, IMU
            words = np.frombuffer(data, '<u4', 2 * number, start).reshape(-1, 2).astype(np.int64)
            words = words[words[:, 0] & 1 == 1]
            blocks.append(np.stack([words[:, 1] | overflow << 31, words[:, 0]]))
    t, word = np.concatenate(blocks, 1) if blocks else np.empty((2, 0), np.int64)
    return make_events(t, word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1)


def _load_npz(path: Path, keys: Sequence[str]) -> list[np.ndarray]:
    with np.load(path) as arrays:
        missing = [key for key in keys if key not in arrays]
        if missing:
            raise ValueError(f'it has the arrays {arrays.files}, expected {list(keys)}')
        return [arrays[key] for key in keys]


def _read_npz(path: Path) -> np.ndarray:
    """Arrays t, x, y, p of one length, as spikingjelly and many others write."""
    t, x, y, p = _load_npz(path, ('t', 'x', 'y', 'p'))
    lengths = [len(v) for v in (t, x, y, p)]
    if len(set(lengths)) > 1:
        raise ValueError(f't, x, y and p have different lengths: {lengths}')
    return make_events(t, x, y, p)


READERS = {'.bin': _read_atis, '.aedat': _read_aedat, '.npz': _read_npz}

# what numpy raises for files that are no archives or broken ones
FAULTS = (OSError, ValueError, EOFError, KeyError, struct.error, zipfile.BadZipFile, zlib.error)


def unreadable(path: str | Path, error: Exception | str) -> ValueError:
    """The error for a recording that cannot be used: its path, and why."""
    reason = f'{type(error).__name__}: {error}' if isinstance(error, Exception) and type(error) is not ValueError else error
    return ValueError(f'cannot read recording {path}: {reason}. Replace the file, or take it out of the data set')


def read_events(
    path: str | Path, sensor_size: tuple[int, int] | None = None, interval: tuple[int, int] | None = None
) -> np.ndarray:
    """Events of a recording in order of time.

    Args:
        path: ``.bin`` (ATIS, 40 bits an event), ``.aedat`` (2.0 of a DVS128, 3.1) or ``.npz`` (arrays t, x, y, p).
        sensor_size: Height and width in px; an event outside is an error. None: not checked.
        interval: Only events with start <= t < end, in us of the recording's clock.

    Returns:
        An array of ``EVENT`` (fields t in us, x, y, p), at least one.

    Raises:
        ValueError: The file is missing, of another format, cut off or empty; its name is in the message. Neither ``.bin`` nor
            AEDAT 2.0 say how long they are: a file cut off just between two events is a shorter recording.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise unreadable(path, f'files of events end with one of {list(READERS)}')
    try:
        events = reader(path)
    except FAULTS as error:
        raise unreadable(path, error) from error
    if interval is not None:
        first, last = np.searchsorted(events['t'], interval)
        events = events[first:last]
    if not len(events):
        raise unreadable(
            path, 'it has no events' if interval is None else f'it has no events from {interval[0]} to {interval[1]} us'
        )
    if sensor_size is not None:
        height, width = sensor_size
        outside = (events['x'] < 0) | (events['x'] >= width) | (events['y'] < 0) | (events['y'] >= height)
        if outside.any():
            first = events[outside][0]
            raise unreadable(
                path,
                f'{outside.sum()} events lie outside the {height} x {width} px sensor, '
                f'the first at x={first["x"]}, y={first["y"]}',
            )
    return events


def choose_frames(number: int, T: int, random: bool) -> np.ndarray:
    """T ascending indices below ``number``: from each of T equal parts its middle one, or a random one.

    With fewer than T frames some are repeated.
    """
    edges = np.arange(T + 1) * number / T
    offsets = np.random.rand(T) if random else 0.5
    return np.minimum(edges[:-1] + offsets * (number / T), number - 1).astype(int)


def read_frames(path: str | Path, T: int, random: bool = False, channels: tuple[int, int] = (0, 2)) -> np.ndarray:
    """T frames of a recording that is frames already.

    Args:
        path: A folder of images in order of their names, or an ``.npz`` with ``frames`` [N, 2, H, W] (as spikingjelly
            integrates them).
        T: Frames to take, one of each of T equal parts of the recording.
        random: A random frame of each part, else its middle one.
        channels: Of an image, B, G, R, which show OFF and ON events. A grey image stands for both.

    Returns:
        float32 [T, 2, H, W], OFF and ON; images in 0 to 1, arrays as they are.

    Raises:
        ValueError: Nothing there, or an image cannot be decoded or has another size; the file is named.
    """
    path = Path(path)
    if path.suffix.lower() == '.npz':
        try:
            (frames,) = _load_npz(path, ('frames',))
        except FAULTS as error:
            raise unreadable(path, error) from error
        if frames.ndim != 4 or frames.shape[1] != 2 or not len(frames):
            raise unreadable(path, f'expected frames [N, 2, H, W], got shape {frames.shape}')
        return frames[choose_frames(len(frames), T, random)].astype(np.float32)
    if not path.is_dir():
        raise unreadable(path, 'it is neither a folder of images nor an .npz file')
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGES)
    if not files:
        raise unreadable(path, f'the folder has no images ({", ".join(IMAGES)})')
    chosen: list[np.ndarray] = []
    for file in (files[i] for i in choose_frames(len(files), T, random)):
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) if file.stat().st_size else None
        if image is None:
            raise unreadable(file, 'it is no image, or a broken one')
        if chosen and image.shape[:2] != chosen[0].shape[1:]:
            raise unreadable(file, f'{image.shape[:2]} px, the frames before have {chosen[0].shape[1:]}')
        chosen.append(image[..., list(channels)].transpose(2, 0, 1))
    return np.stack(chosen).astype(np.float32) / 255
