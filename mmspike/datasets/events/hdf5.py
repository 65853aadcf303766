"""HDF5 recordings of DSEC and of RVT's copies of GEN1 and 1 Mpx: groups ``events`` with arrays t, x, y, p."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .recording import Block
from .stream import BLOCK, EventStream, MissingPackage, Part


class Hdf5Stream(EventStream):
    """A group ``events``. ``t_offset``, which DSEC has beside it, is added: times are then those of its images and labels.

    Times that fall, as in a few files of RVT, are raised to the largest before them; :attr:`repaired` counts them.
    """

    def __init__(self, path: str | Path, index: np.ndarray | None = None) -> None:
        super().__init__(path, index)
        try:
            import h5py
        except ImportError:
            raise MissingPackage(f'{path} is an HDF5 file: pip install h5py hdf5plugin') from None
        try:
            import hdf5plugin  # noqa: F401  it makes h5py read Blosc, with which these files are packed
        except ImportError:
            pass  # files that are not packed so are read without it; _slice names it for the others
        self._file = h5py.File(self.path, 'r')
        #: times that were raised to those before them
        self.repaired = 0
        if 'CD' in self._file:
            raise ValueError(
                "it has Prophesee's layout (CD/events), packed by a filter (ECF) that h5py lacks: convert it to .dat with "
                'metavision_file_to_dat, or read it with the package evlib'
            )
        missing = [name for name in 'txyp' if f'events/{name}' not in self._file]
        if missing:
            raise ValueError(f'it has no arrays {", ".join(f"events/{name}" for name in missing)}, but {list(self._file)}')
        self._events = self._file['events']
        lengths = {name: len(self._events[name]) for name in 'txyp'}
        if len(set(lengths.values())) > 1:
            raise ValueError(f't, x, y and p have different lengths: {lengths}')
        self._length = lengths['t']
        self._offset = int(np.asarray(self._file['t_offset'][()]).item()) if 't_offset' in self._file else 0
        size = [self._events.get(name) for name in ('height', 'width')]
        if all(value is not None and value.shape == () for value in size):
            self.sensor_size = int(size[0][()]), int(size[1][()])
        elif 'ms_to_idx' in self._file:  # DSEC
            self.sensor_size = (480, 640)

    def _slice(self, name: str, start: int, stop: int) -> np.ndarray:
        try:
            return self._events[name][start:stop]
        except OSError as error:
            if 'hdf5plugin' not in sys.modules and 'filter' in str(error).lower():
                raise MissingPackage(f'{self.path} is packed with a filter that h5py lacks: pip install hdf5plugin') from None
            raise

    def _pixels(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._slice('x', start, stop), self._slice('y', start, stop), self._slice('p', start, stop)

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        largest, self.repaired = None, 0
        for start in range(0, self._length, BLOCK):
            stop = min(start + BLOCK, self._length)
            state = -(2**62) if largest is None else largest
            t, repaired = self._times(start, stop, state)
            self.repaired += repaired
            largest = int(t[-1])
            yield (start, stop, state), (t, *self._pixels(start, stop))

    def _times(self, start: int, stop: int, before: int) -> tuple[np.ndarray, int]:
        t = self._slice('t', start, stop)
        if t.dtype.kind not in 'iu':
            raise ValueError(f'events/t has type {t.dtype}: times are whole us')
        t = t.astype(np.int64) + self._offset
        raised = np.maximum.accumulate(np.maximum(t, before))
        return raised, int((raised != t).sum())

    def _decode(self, part: Part) -> Block:
        t, _ = self._times(part.start, part.stop, part.state)
        return (t, *self._pixels(part.start, part.stop))

    def close(self) -> None:
        self._file.close()
