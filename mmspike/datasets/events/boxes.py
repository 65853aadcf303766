"""Boxes beside recordings: the ``.npy`` files of GEN1, 1 Mpx and DSEC-Det.

Facts of the files: github.com/prophesee-ai/prophesee-automotive-dataset-toolbox, ``src/io``; github.com/uzh-rpg/dsec-det.
"""

from pathlib import Path

import numpy as np

from .recording import RecordingError, named

#: a box: time in us, left, top, width and height in px, class, track (-1 where there are none), confidence
BOX = np.dtype(
    [
        ('t', np.int64),
        *((name, np.float32) for name in 'xywh'),
        ('class_id', np.int64),
        ('track_id', np.int64),
        ('class_confidence', np.float32),
    ]
)
NUMPY = b'\x93NUMPY'  # the first bytes of a .npy
# a field -> what it was called when GEN1 appeared
OLDER = dict(t='ts', class_confidence='confidence')
# fields of GEN1 as published, and of 1 Mpx
GEN1_FILE = np.dtype(
    [
        ('ts', '<u8'),
        *((name, '<f4') for name in 'xywh'),
        ('class_id', 'u1'),
        ('confidence', '<f4'),
        ('track_id', '<u4'),
    ]
)
TOOLBOX_FILE = np.dtype(
    [
        ('t', '<i8'),
        *((name, '<f4') for name in 'xywh'),
        ('class_id', '<u4'),
        ('track_id', '<u4'),
        ('class_confidence', '<f4'),
    ]
)


def read_boxes(path: str | Path, num_classes: int | None = None) -> np.ndarray:
    """The boxes of a recording in order of time, as they are: some may reach outside the sensor.

    Fields are taken by name, in the spelling of GEN1 (``ts``, ``confidence``) or the newer one (``t``,
    ``class_confidence``). Of boxes of one track at one time the last one counts.

    Args:
        path: A ``.npy`` file.
        num_classes: Classes that the file may have, counted from 0. None: not checked.

    Returns:
        An array of ``BOX``, maybe empty.

    Raises:
        RecordingError: (a ValueError) The file is missing, broken, no array of boxes, or has another class; it is named.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), 'drive_bbox.npy')
        >>> np.save(path, np.array([(250_000, -3, 8, 20, 10, 1, 0.5, 7)], GEN1_FILE))
        >>> boxes = read_boxes(path)
        >>> boxes['t'].tolist(), boxes['x'].tolist(), boxes['track_id'].tolist()
        ([250000], [-3.0], [7])
    """
    path = Path(path)
    with named(path):
        if not path.is_file():
            raise FileNotFoundError('there is no such file of boxes')
        with path.open('rb') as file:
            if file.read(len(NUMPY)) != NUMPY:
                raise ValueError('it is no .npy of numpy')
        stored = np.load(path, allow_pickle=False)
        names = stored.dtype.names or ()
        spelling = {name: name if name in names else OLDER.get(name, name) for name in BOX.names or ()}
        missing = [name for name in ('t', 'x', 'y', 'w', 'h', 'class_id') if spelling[name] not in names]
        if missing or stored.ndim != 1:
            raise ValueError(
                f'it has shape {stored.shape} and the fields {list(names) or stored.dtype}, expected one row a box with t (or '
                'ts), x, y, w, h, class_id'
            )
        boxes = np.zeros(len(stored), BOX)
        boxes['track_id'], boxes['class_confidence'] = -1, 1
        for name, stored_name in spelling.items():
            if stored_name in names:
                boxes[name] = stored[stored_name]
        places = np.stack([boxes[name] for name in 'xywh'])
        if not np.isfinite(places).all():
            raise ValueError(f'box {int(np.flatnonzero(~np.isfinite(places).all(0))[0])} has a place that is no number')
        if num_classes is not None and len(boxes) and not 0 <= boxes['class_id'].min() <= boxes['class_id'].max() < num_classes:
            found = sorted(set(boxes['class_id'].tolist()))
            raise ValueError(f'it has the classes {found}, expected 0 to {num_classes - 1}')
    boxes = boxes[np.argsort(boxes['t'], kind='stable')]
    return _last_of_tracks(boxes)


def _last_of_tracks(boxes: np.ndarray) -> np.ndarray:
    tracks = boxes['track_id']
    if not len(boxes) or (tracks == tracks[0]).all():  # a file whose boxes have no tracks
        return boxes
    keys = np.stack([boxes['t'], tracks], 1)[::-1]
    _, last = np.unique(keys, axis=0, return_index=True)
    return boxes[np.sort(len(boxes) - 1 - last)]


def cut_boxes(boxes: np.ndarray, sensor_size: tuple[int, int]) -> np.ndarray:
    """``BOX`` cut at the first and last row and column of the sensor; those of which nothing is left are gone.

    Args:
        boxes: An array of ``BOX``.
        sensor_size: Height and width in px.

    Example:
        >>> box = np.zeros(2, BOX)
        >>> box['x'], box['y'], box['w'], box['h'] = [-10, 400], 5, 30, 20
        >>> cut = cut_boxes(box, (240, 304))
        >>> [float(cut[name][0]) for name in 'xywh'], len(cut)
        ([0.0, 5.0, 20.0, 20.0], 1)
    """
    height, width = sensor_size
    cut = boxes.copy()
    for low, side, limit in (('x', 'w', width - 1), ('y', 'h', height - 1)):
        ends = [np.clip(value, 0, limit) for value in (boxes[low], boxes[low] + boxes[side])]
        cut[low], cut[side] = ends[0], ends[1] - ends[0]
    return cut[(cut['w'] > 0) & (cut['h'] > 0)]


def large_boxes(boxes: np.ndarray, diagonal: float, side: float, strict: bool = False) -> np.ndarray:
    """True where both sides of a box have at least ``side`` px and its diagonal ``diagonal`` px; ``strict``: more than that."""
    # in float64: a diagonal of just 30 px is 30 px
    width, height = boxes['w'].astype(np.float64), boxes['h'].astype(np.float64)
    squares = width**2 + height**2
    if strict:
        return (squares > diagonal**2) & (width > side) & (height > side)
    return (squares >= diagonal**2) & (width >= side) & (height >= side)


def check_same_length(recordings: list[Path], labels: list[Path], what: str) -> None:
    """Refuse recordings without labels and the reverse.

    Args:
        recordings: Files of events that there should be.
        labels: Their files of labels, one each, in the same order.
        what: What the labels are called.
    """
    lone = [f'{r} has no {what} {b.name}' for r, b in zip(recordings, labels, strict=True) if r.exists() and not b.exists()]
    lone += [f'{b} has no recording {r.name}' for r, b in zip(recordings, labels, strict=True) if b.exists() and not r.exists()]
    if lone:
        more = f', and {len(lone) - 1} more' if len(lone) > 1 else ''
        raise RecordingError(f'{lone[0]}{more}: get the missing files, or move the others out of the data set')
