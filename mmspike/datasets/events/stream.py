"""Recordings that are read in part: an index of blocks with their times, of which only those of an interval are decoded."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmspike.utils.errors import UserError

from .recording import EVENT, Block, gather, in_order, named, unreadable

#: times of a stream go on for ever: its decoder has counted how often the clock of the file began anew
ENDLESS = 2**62
BLOCK = 2**16  # events decoded at once, about


class Part(NamedTuple):
    """A block of a file: from where to where it goes, what the decoder must know there, its events and their times in us."""

    start: int
    stop: int
    state: int
    number: int
    first: int
    last: int


class EventStream:
    """A recording from which the events of an interval are read, in memory of the size of that interval.

    A subclass says by :meth:`_read` how a file is decoded from its beginning and by :meth:`_decode` how one block is.

    Args:
        path: The file.
        index: Of an earlier time, see :attr:`index`; it saves the pass over the file.

    Attributes:
        sensor_size: Height and width in px, or None where the file does not say.
    """

    sensor_size: tuple[int, int] | None = None

    def __init__(self, path: str | Path, index: np.ndarray | None = None) -> None:
        self.path = Path(path)
        if index is not None:
            self.parts = [Part(*map(int, row)) for row in index]

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        """From the beginning of the file: of each block start, stop and state, and what it holds with times that go on."""
        raise NotImplementedError

    def _decode(self, part: Part) -> Block:
        """One block."""
        raise NotImplementedError

    @cached_property
    def parts(self) -> list[Part]:
        """The blocks that hold events; the first use of it passes over the file once."""
        parts = []
        with named(self.path):
            for place, (t, *_) in self._read():
                if len(t):
                    parts.append(Part(*place, len(t), int(t.min()), int(t.max())))
        return parts

    @property
    def index(self) -> np.ndarray:
        """The parts as an array [blocks, 6] of whole numbers, to be kept and given to a later stream of the same file."""
        return np.array(self.parts, np.int64).reshape(-1, len(Part._fields))

    @property
    def count(self) -> int:
        """Number of events."""
        return sum(part.number for part in self.parts)

    @property
    def span(self) -> tuple[int, int]:
        """Times of the first and the last event, in us.

        Raises:
            RecordingError: (a ValueError) The recording has no events.
        """
        if not self.parts:
            raise unreadable(self.path, 'it has no events')
        return min(part.first for part in self.parts), max(part.last for part in self.parts)

    def between(self, start: int, end: int) -> np.ndarray:
        """Events with start <= t < end, in us of the recording's clock, in order of time; an array of ``EVENT``, may be empty.

        Raises:
            RecordingError: (a ValueError) An event lies outside the sensor, or the file is broken there.
        """
        parts = [part for part in self.parts if part.first < end and part.last >= start]
        events, n, ordered = np.empty(sum(part.number for part in parts), EVENT), 0, True
        for part in parts:
            within = start <= part.first and part.last < end
            with named(self.path):
                block = gather([self._decode(part)], ENDLESS, self.sensor_size, None if within else (start, end))
            ordered = ordered and (not n or not len(block) or events['t'][n - 1] <= block['t'][0])
            events[n : n + len(block)] = block
            n += len(block)
        return events[:n] if ordered else in_order(events[:n])

    def blocks(self) -> Iterator[np.ndarray]:
        """The whole recording, in arrays of ``EVENT``; in order of time within each."""
        for _, events in self.stored():
            yield events

    def stored(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As :meth:`blocks`, each with its times in the order in which they are stored."""
        read = self._read()
        while True:
            with named(self.path):
                entry = next(read, None)
                events = None if entry is None else gather([entry[1]], ENDLESS, self.sensor_size)
            if entry is None or events is None:
                return
            if len(events):
                yield entry[1][0], events

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> 'EventStream':
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class MissingPackage(UserError, ImportError):
    """A format whose package is not installed; the message names it."""


class Unwrapped:
    """Times of a clock that begins anew at ``period``: told by a step back of more than half of it.

    Smaller steps back are events out of order, which cameras send when they are busy.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self.added = 0
        self.last: int | None = None

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """Times, int64, that go on from those of the call before."""
        t = t.astype(np.int64)
        if not len(t):
            return t
        gaps = np.diff(t, prepend=t[0] if self.last is None else self.last)
        self.last = int(t[-1])
        falls = gaps < -self.period // 2
        # an event from before a new beginning, that comes late
        rises = gaps > self.period // 2
        if falls.any() or rises.any():
            t += self.added + np.cumsum(falls.astype(np.int64) - rises) * self.period
            self.added += int(falls.sum() - rises.sum()) * self.period
        else:
            t += self.added
        return t
