"""What data sets of events with labels in time have in common: recordings, kept indices, samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .kept_index import open_indexed
from .recording import RecordingError
from .splits import SPLITS
from .windows import Window, check_samples, make_windows


class LabelledRecordings:
    """A mixin of the hosts' data sets: recordings with labels at some times, as samples of a duration.

    Args:
        data_root: Folder of the data set.
        split: 'train', 'val' or 'test', as published.
        samples: 'windows': the events before each labelled time, of which networks take each from rest. 'sequences': windows
            that follow each other through a recording, some of them without labels, for ``stateful`` neurons; their loader
            needs :class:`mmspike.StreamSampler`.
        window: Duration of a sample in us.
        grid: Take only labelled times about so many us apart, as RVT does (250000 for GEN1's 4 Hz). None: all.
        sensor_size: Height and width in px, where it is not that of the data set.
        index_dir: Where an index of each recording is kept, which is made when it is first read. None: ``.event_index`` in
            ``data_root``.
    """

    SENSOR_SIZE: tuple[int, int]
    NAMES: tuple[str, ...] = SPLITS

    def set_samples(
        self,
        data_root: str,
        split: str,
        samples: str,
        window: int,
        grid: int | None,
        sensor_size: Sequence[int] | None,
        index_dir: str | None,
    ) -> None:
        """Keep and check the arguments, before the host's constructor loads the list of samples."""
        if split not in self.NAMES:
            raise ValueError(f'split={split!r}: {type(self).__name__} has {", ".join(self.NAMES)}')
        check_samples(samples, window, grid)
        self.split, self.samples, self.window, self.grid = split, samples, window, grid
        size = tuple(self.SENSOR_SIZE if sensor_size is None else sensor_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f'sensor_size must be height and width in px, got {sensor_size}')
        self.sensor_size = size[0], size[1]
        self.root = Path(data_root)
        self.index_dir = Path(index_dir) if index_dir else self.root / '.event_index'

    def folder(self, *parts: str) -> Path:
        """A folder of the data set.

        Raises:
            RecordingError: There is none.
        """
        folder = self.root.joinpath(*parts)
        if not folder.is_dir():
            raise RecordingError(f'{folder} does not exist: {type(self).__name__} needs it, see docs/events.md for its layout')
        return folder

    def index_path(self, recording: Path) -> str:
        """Where the index of a recording lies."""
        return str(self.index_dir / f'{recording.relative_to(self.root)}.npz')

    def start_of(self, recording: Path) -> int:
        """Time of a recording's first event in us; an index is made where there is none."""
        with open_indexed(recording, self.index_path(recording), self.sensor_size) as stream:
            return stream.span[0]

    def samples_of(self, recording: Path, times: np.ndarray) -> list[tuple[Window, dict[str, Any]]]:
        """The windows of a recording, and for each what all samples have.

        Args:
            times: Labelled times in us; equal ones count once.
        """
        start = self.start_of(recording) if self.samples == 'sequences' or self.grid else 0
        windows = make_windows(np.unique(times), self.samples, self.window, self.grid, start)
        shared = dict(
            events_path=str(recording),
            index_path=self.index_path(recording),
            recording=str(recording.relative_to(self.root)),
            sensor_size=self.sensor_size,
        )
        in_sequence = self.samples == 'sequences'
        return [
            (
                window,
                dict(shared, window=(window.start, window.end), t=window.end, labelled=window.labelled)
                | (dict(continues=not window.first) if in_sequence else {}),
            )
            for window in windows
        ]

    def check_not_empty(self, samples: list[dict], where: Path) -> list[dict]:
        """The samples, numbered; an error where there are none."""
        if not samples:
            raise RecordingError(f'{where} has no labelled recordings of the split {self.split} for {type(self).__name__}')
        for number, sample in enumerate(samples):
            sample['img_id'] = number
        return samples
