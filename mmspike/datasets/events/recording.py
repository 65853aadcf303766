"""Checked events: what decoders give is compared with what an event can be, before anything is cast to smaller numbers."""

import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmspike.utils.errors import UserError
from mmspike.utils.files import stand_in

#: an event: time in us, column, row, polarity (0: OFF, darker; 1: ON, brighter)
EVENT = np.dtype([('t', np.int64), ('x', np.int16), ('y', np.int16), ('p', np.uint8)])

#: t, x, y, p of a part of a recording, as stored
Block = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

POLARITIES = ((0, 1), (-1, 1), (0, 255))  # codes of OFF and ON that cannot be taken for each other
LARGEST_SIDE = np.iinfo(np.int16).max + 1  # px


#: what numpy and others raise for files that are not archives or broken ones
FAULTS = (OSError, ValueError, EOFError, KeyError, struct.error, zipfile.BadZipFile, zlib.error)


class RecordingError(UserError, ValueError):
    """A recording that cannot be used; the message says which, why and what to do."""


def unreadable(path: str | Path, error: Exception | str) -> RecordingError:
    """The error for a recording that cannot be used: its path, and why."""
    reason = f'{type(error).__name__}: {error}' if isinstance(error, Exception) and type(error) is not ValueError else error
    return RecordingError(
        f'cannot read recording {path}: {reason}{stand_in(path)}. Replace the file, or take it out of the data set'
    )


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Inside, what is wrong with a recording is raised with its path."""
    try:
        yield
    except RecordingError:
        raise
    except FAULTS as error:
        raise unreadable(path, error) from error


def _whole_numbers(name: str, values: Any, remedy: str) -> np.ndarray:
    """``values`` as integers; ValueError where that would lose something."""
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in 'iuf':
        raise ValueError(f'{name} has shape {values.shape} and type {values.dtype}: expected one whole number an event')
    if values.dtype.kind != 'f':
        return values
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f'{name} is {values[first]} at event {first}')
    fractions = values != np.floor(values)
    if fractions.any():
        raise ValueError(
            f'{name} has fractions, the first {values[fractions][0]:g} at event {np.flatnonzero(fractions)[0]}: {remedy}'
        )
    return values.astype(np.int64)


def _is_on(p: np.ndarray) -> np.ndarray:
    if p.dtype == bool:
        return p
    codes = np.unique(p)
    for off, on in POLARITIES:
        # 255 alone may be -1 as an unsigned byte
        if np.isin(codes, (off, on)).all() and (on != 255 or off in codes):
            return p == on
    numbers = p.dtype.kind in 'iuf'
    found = f'has the values {", ".join(f"{code:g}" for code in codes[:5])}' if numbers else f'is of type {p.dtype}'
    raise ValueError(
        f'p (polarity) {found}: expected 0 and 1, -1 and 1, or bool, for OFF and ON (255 beside 1 is mostly '
        '-1 kept as an unsigned byte): write them anew'
    )


def _check_clock(t: np.ndarray, last: int | None, start: int, period: int) -> bool:
    """True where no time falls; ValueError where one does by more than half of what the clock counts to.

    Sorting would move all that comes behind to the front.
    """
    t = t.astype(np.int64, copy=False)
    gaps = np.diff(t, prepend=t[0] if last is None else last)
    if gaps.min() < -period // 2:
        i = int(np.argmin(gaps))
        raise ValueError(
            f't falls from {t[i] - gaps[i]} to {t[i]} us at event {start + i}: the clock, which counts to '
            f'{period} us, began anew. Write the times as 64-bit numbers that go on, or divide the recording there'
        )
    return bool(gaps.min() >= 0)


def gather(
    blocks: Iterable[Block],
    clock_period: int,
    sensor_size: tuple[int, int] | None = None,
    interval: tuple[int, int] | None = None,
) -> np.ndarray:
    """Events of ``blocks`` in order of time.

    Args:
        blocks: Parts of a recording, one after the other.
        clock_period: What the format's clock counts to, in us.
        sensor_size: Height and width in px. None: any that ``EVENT`` can hold.
        interval: Only events with start <= t < end, in us.

    Returns:
        An array of ``EVENT``.

    Raises:
        ValueError: Time, column or row is not a whole number, a polarity of unknown code, an event outside the sensor, or time
            that falls by more than half of ``clock_period``. Smaller steps back are put in order.
    """
    checked, ordered = [], True
    for events, in_order_so_far in _checked(blocks, clock_period, sensor_size, interval):
        checked.append(events)
        ordered = ordered and in_order_so_far
    gathered = checked[0] if len(checked) == 1 else np.concatenate([np.empty(0, EVENT), *checked])
    return gathered if ordered else in_order(gathered)


def _checked(
    blocks: Iterable[Block], clock_period: int, sensor_size: tuple[int, int] | None, interval: tuple[int, int] | None
) -> Iterator[tuple[np.ndarray, bool]]:
    """Blocks of ``EVENT``, and whether their times fall nowhere, nor below those of the block before."""
    height, width = sensor_size or (LARGEST_SIDE, LARGEST_SIDE)
    last, count = None, 0
    for times, columns, rows, polarities in blocks:
        t = _whole_numbers('t', times, 'times are whole us. Of seconds store np.round(t * 1e6).astype(np.int64)')
        x, y = (
            _whole_numbers(name, values, 'pixels are whole numbers. Of rectified ones store np.round')
            for name, values in (('x', columns), ('y', rows))
        )
        if not len(t):
            continue
        ordered = _check_clock(t, last, count, clock_period)
        last, count = int(t[-1]), count + len(t)
        p = _is_on(np.asarray(polarities))
        if interval is not None:
            within = (t >= interval[0]) & (t < interval[1])
            t, x, y, p = t[within], x[within], y[within], p[within]
        if len(t) and (x.min() < 0 or x.max() >= width or y.min() < 0 or y.max() >= height):
            outside = (x < 0) | (x >= width) | (y < 0) | (y >= height)
            i = int(np.flatnonzero(outside)[0])
            raise ValueError(
                f'{outside.sum()} events lie outside the {height} x {width} px sensor, the first at x={x[i]}, y={y[i]}'
            )
        events = np.empty(len(t), EVENT)
        events['t'], events['x'], events['y'], events['p'] = t, x, y, p
        yield events, ordered


def in_order(events: np.ndarray) -> np.ndarray:
    """``EVENT`` in order of time; those of equal times keep theirs."""
    if (np.diff(events['t']) < 0).any():
        events = events[np.argsort(events['t'], kind='stable')]
    return events


def make_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """An array of ``EVENT`` in order of time, from arrays of whole us and px and of polarities; see :func:`gather`."""
    return gather([(t, x, y, p)], clock_period=2**32)
