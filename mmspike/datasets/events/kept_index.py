"""Indices of recordings that are made once and kept as files."""

import os
import tempfile
from pathlib import Path

import numpy as np

from .readers import open_events
from .recording import RecordingError
from .stream import EventStream


def open_indexed(path: str | Path, index_file: str | Path | None, sensor_size: tuple[int, int] | None = None) -> EventStream:
    """A recording to read in part, whose index is read from ``index_file``, or made and written there.

    A kept index counts only for a recording of the size and time of change that it was made for.

    Args:
        path: The recording, see :func:`open_events`.
        index_file: Where its index lies, ``.npz``. None: it is made anew.
        sensor_size: Height and width in px; another one in the file is an error.

    Raises:
        RecordingError: (a ValueError) As of :func:`open_events`, or the index cannot be written.
    """
    path = Path(path)
    if index_file is None or not path.is_file():
        return open_events(path, sensor_size)
    index_file = Path(index_file)
    status = path.stat()
    made_for = np.array([status.st_size, status.st_mtime_ns])
    index = _read(index_file, made_for)
    stream = open_events(path, sensor_size, index)
    if index is None:
        _write(index_file, made_for, stream.index)
    return stream


def _read(index_file: Path, made_for: np.ndarray) -> np.ndarray | None:
    if not index_file.is_file():
        return None
    with np.load(index_file) as kept:
        return kept['index'] if np.array_equal(kept['made_for'], made_for) else None


def _write(index_file: Path, made_for: np.ndarray, index: np.ndarray) -> None:
    """At once, so that a worker that reads at this moment sees the old file or the new one."""
    try:
        index_file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=index_file.parent, suffix='.npz', delete=False) as file:
            np.savez(file, made_for=made_for, index=index)
        os.replace(file.name, index_file)
    except OSError as error:
        raise RecordingError(
            f'cannot keep the index of a recording as {index_file} ({error.strerror}): set index_dir of the data set to a '
            'folder that can be written'
        ) from error
