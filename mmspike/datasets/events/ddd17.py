"""DDD17 as arrays: ``events.dat.t`` (int64, ns) beside ``events.dat.xyp`` (int16), as github.com/uzh-rpg/ess distributes it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .recording import Block
from .stream import BLOCK, EventStream, Part

SENSOR_SIZE = (260, 346)


class Ddd17Stream(EventStream):
    """``events.dat.t`` and the file of pixels beside it. Times of a stream are us: ns are cut off."""

    def __init__(self, path: str | Path, index: np.ndarray | None = None) -> None:
        super().__init__(path, index)
        pixels = self.path.with_suffix('.xyp')
        lengths = self.path.stat().st_size / 8, pixels.stat().st_size / 6
        if lengths[0] != lengths[1] or not lengths[0].is_integer():
            raise ValueError(
                f'it has {lengths[0]:g} times of 8 bytes, and {pixels.name} beside it {lengths[1]:g} pixels of 6 bytes: one of '
                'them is cut off'
            )
        number = int(lengths[0])
        self._t = np.memmap(self.path, '<i8', 'r') if number else np.empty(0, np.int64)
        self._xyp = np.memmap(pixels, '<i2', 'r', shape=(number, 3)) if number else np.empty((0, 3), np.int16)

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        for start in range(0, len(self._t), BLOCK):
            stop = min(start + BLOCK, len(self._t))
            yield (start, stop, 0), self._block(start, stop)

    def _decode(self, part: Part) -> Block:
        return self._block(part.start, part.stop)

    def _block(self, start: int, stop: int) -> Block:
        x, y, p = np.asarray(self._xyp[start:stop]).T
        return np.asarray(self._t[start:stop]) // 1000, x, y, p

    def close(self) -> None:
        self._t, self._xyp = np.empty(0, np.int64), np.empty((0, 3), np.int16)
