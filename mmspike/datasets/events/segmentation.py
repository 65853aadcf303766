"""Data sets of label maps beside recordings of event cameras, for mmseg. Needs mmseg."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmseg.datasets.basesegdataset import BaseSegDataset

from mmspike.registry import DATASETS

from .boxes import check_same_length
from .labelled import LabelledRecordings
from .recording import RecordingError, named, unreadable
from .splits import DDD17 as DDD17_SPLITS
from .splits import DSEC_SEMANTIC


class EventSegmentation(LabelledRecordings, BaseSegDataset):
    """The base of the data sets of label maps.

    A sample has ``events_path``, ``window``, ``t`` (the labelled time), ``labelled``, ``sensor_size``, ``image_size`` and
    ``seg_map_path``; :class:`mmspike.LoadEventWindow` and :class:`mmspike.LoadEventSegMap` read it.

    Args:
        data_root, split, samples, window, grid, sensor_size, index_dir: See
            :class:`mmspike.datasets.events.labelled.LabelledRecordings`.
        image_size: Height and width of the label maps, where it is not that of the data set; events below and right of it are
            left out.
        kwargs: mmseg's ``BaseSegDataset``: ``metainfo``, ``pipeline``, ``indices`` and others.

    Raises:
        RecordingError: (a ValueError) A folder, recording or label map is missing, or there are more of one than of the other.
    """

    IMAGE_SIZE: tuple[int, int]

    def __init__(
        self,
        data_root: str,
        split: str,
        samples: str = 'windows',
        window: int = 50_000,
        grid: int | None = None,
        sensor_size: Sequence[int] | None = None,
        image_size: Sequence[int] | None = None,
        index_dir: str | None = None,
        **kwargs,
    ) -> None:
        self.set_samples(data_root, split, samples, window, grid, sensor_size, index_dir)
        size = tuple(self.IMAGE_SIZE if image_size is None else image_size)
        if len(size) != 2 or any(not 0 < n <= m for n, m in zip(size, self.sensor_size, strict=True)):
            raise ValueError(
                f'image_size={size} is not within the sensor of {self.sensor_size} px (height, width): set both as the data are'
            )
        self.image_size = size[0], size[1]
        super().__init__(data_root=data_root, **kwargs)
        self._metainfo |= dict(split=split, sensor_size=self.sensor_size)

    @classmethod
    def get_label_map(cls, new_classes: Sequence | None = None) -> dict | None:
        """mmseg's, for a part of the data set's classes; other names are of the numbers in label maps of one's own."""
        if new_classes is not None and not set(new_classes) <= set(cls.METAINFO['classes']):
            return None
        return super().get_label_map(new_classes)

    def recordings(self) -> Iterator[tuple[Path, np.ndarray, list[Path], dict]]:
        """Recordings, the ascending times of their label maps in us, the maps, and what else their samples have."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """One dict a sample."""
        samples = []
        for path, times, maps, more in self.recordings():
            by_time = dict(zip(times.tolist(), map(str, maps), strict=True))
            for window, sample in self.samples_of(path, times):
                sample |= dict(
                    seg_map_path=by_time[window.end] if window.labelled else None,
                    image_size=self.image_size,
                    label_map=self.label_map,
                    reduce_zero_label=self.reduce_zero_label,
                    seg_fields=[],
                    **more,
                )
                samples.append(sample)
        return self.check_not_empty(samples, self.root)


@DATASETS.register_module()
class DSECSemantic(EventSegmentation):
    """DSEC-Semantic (ESS, ECCV 2022): labels of 11 classes, 640 x 440 px, for 8 + 3 drives of DSEC at 20 Hz.

    ``data_root`` is that of DSEC, with train/ and test/: ``<recording>/events/left/events.h5`` with ``rectify_map.h5``
    beside it, ``<recording>/semantic/timestamps.txt`` and ``<recording>/semantic/11classes/data/*.png`` (or one folder deeper,
    in ``left``). There is no split to validate on: choose a model by the last epoch, or on recordings of one's own.

    Args:
        skip: Label maps at the beginning of a recording that are left out, before which there are too few events. ESS: 6.
        every: Take every so many-th of the others. ESS: 2.
        rectify: Move events to where the labels are, which are of the undistorted picture.
        kwargs: See :class:`EventSegmentation`.
    """

    METAINFO = dict(
        classes=(
            'background',
            'building',
            'fence',
            'person',
            'pole',
            'road',
            'sidewalk',
            'vegetation',
            'car',
            'wall',
            'traffic sign',
        ),
        palette=[
            (70, 130, 180),
            (70, 70, 70),
            (190, 153, 153),
            (220, 20, 60),
            (153, 153, 153),
            (128, 64, 128),
            (244, 35, 232),
            (107, 142, 35),
            (0, 0, 142),
            (102, 102, 156),
            (220, 220, 0),
        ],
    )
    NAMES = ('train', 'test')
    SENSOR_SIZE = (480, 640)
    IMAGE_SIZE = (440, 640)

    def __init__(self, *args, skip: int = 6, every: int = 2, rectify: bool = True, **kwargs) -> None:
        if skip < 0 or every < 1:
            raise ValueError(f'skip must be at least 0 and every at least 1, got {skip} and {every}')
        self.skip, self.every, self.rectify = skip, every, rectify
        super().__init__(*args, **kwargs)

    def recordings(self) -> Iterator[tuple[Path, np.ndarray, list[Path], dict]]:
        folder = self.folder(self.split)
        found = [folder / name for name in DSEC_SEMANTIC[self.split] if (folder / name).is_dir()]
        if not found:
            raise RecordingError(f'{folder} has none of the recordings {", ".join(DSEC_SEMANTIC[self.split])}')
        events = [f / 'events' / 'left' / 'events.h5' for f in found]
        check_same_length(events, [f / 'semantic' / 'timestamps.txt' for f in found], 'times of labels')
        for recording, file in zip(found, events, strict=True):
            semantic = recording / 'semantic'
            maps = sorted((semantic / '11classes' / 'data').glob('*.png'))
            maps = maps or sorted((semantic / 'left' / '11classes' / 'data').glob('*.png'))
            times = _read_times(semantic / 'timestamps.txt')
            if len(times) != len(maps):
                raise RecordingError(f'{semantic} has {len(times)} times of labels and {len(maps)} label maps: get both anew')
            chosen = slice(self.skip, None, self.every)
            more = dict(rectify_path=str(file.with_name('rectify_map.h5'))) if self.rectify else {}
            yield file, times[chosen], maps[chosen], more


def _read_times(path: Path) -> np.ndarray:
    with named(path):
        times = np.loadtxt(path, np.int64, ndmin=1)
        if times.ndim != 1 or (np.diff(times) <= 0).any():
            raise ValueError('it has no ascending times of labels, one a line')
    return times


@DATASETS.register_module()
class DDD17(EventSegmentation):
    """DDD17 with labels (Ev-SegNet, CVPR-W 2019): six classes, 346 x 200 px, drives before a DAVIS346.

    ``data_root`` holds the seven folders ``dir*`` of github.com/uzh-rpg/ess, which of five are to train, the second to
    validate, the fifth to test on: ``events.dat.t``, ``events.dat.xyp``, ``index/index_50ms.npy``,
    ``segmentation_masks/segmentation_*.png``. See :class:`EventSegmentation`.
    """

    METAINFO = dict(
        classes=('flat', 'background', 'object', 'vegetation', 'human', 'vehicle'),
        palette=[(128, 64, 128), (70, 70, 70), (220, 220, 0), (107, 142, 35), (220, 20, 60), (0, 0, 142)],
    )
    SENSOR_SIZE = (260, 346)
    IMAGE_SIZE = (200, 346)

    def recordings(self) -> Iterator[tuple[Path, np.ndarray, list[Path], dict]]:
        found = sorted(f for f in self.folder().glob('dir*') if f.is_dir())
        if len(found) != 7:
            raise RecordingError(
                f'{self.root} has {len(found)} folders dir*, expected 7: the splits are places in their sorted list'
            )
        chosen = [found[i] for i in DDD17_SPLITS[self.split]]
        events = [f / 'events.dat.t' for f in chosen]
        check_same_length(events, [f / 'index' / 'index_50ms.npy' for f in chosen], 'times of pictures')
        for recording, file in zip(chosen, events, strict=True):
            maps = sorted((recording / 'segmentation_masks').glob('*.png'))
            yield file, self._times(recording / 'index' / 'index_50ms.npy', maps), maps, {}

    @staticmethod
    def _times(path: Path, maps: list[Path]) -> np.ndarray:
        """Times of label maps in us. The number in a map's name is that of its picture, from 1; rows begin with times in ns."""
        with named(path):
            pictures = np.load(path, allow_pickle=False)
        if pictures.ndim != 2 or pictures.shape[1] < 2:
            raise unreadable(path, f'it has shape {pictures.shape}, expected a row a picture: time in ns, events before it')
        numbers = []
        for file in maps:
            digits = file.stem.split('_')[-1]
            if not digits.isdigit() or not 1 <= int(digits) <= len(pictures):
                raise unreadable(file, f'its name ends with no number of a picture, 1 to {len(pictures)} of {path}')
            numbers.append(int(digits) - 1)
        return pictures[numbers, 0].astype(np.int64) // 1000 if numbers else np.empty(0, np.int64)
