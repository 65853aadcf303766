"""Data sets of boxes in recordings of event cameras, for mmdet. Needs mmdet."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.base_det_dataset import BaseDetDataset

from mmspike.registry import DATASETS

from .boxes import BOX, check_same_length, cut_boxes, large_boxes, read_boxes
from .labelled import LabelledRecordings
from .recording import RecordingError, named
from .splits import DSEC_DET_VAL, GEN1_WITHOUT_LABELS


class EventDetection(LabelledRecordings, BaseDetDataset):
    """The base of the data sets of boxes.

    A sample has ``events_path``, ``window``, ``t`` (the labelled time), ``labelled``, ``sensor_size``, ``instances`` (as mmdet
    has them, with ``track_id``) and ``boxes`` (an array of ``BOX``, as they are in the file, for the metric).

    Args:
        data_root, split, samples, window, grid, sensor_size, index_dir: See
            :class:`mmspike.datasets.events.labelled.LabelledRecordings`.
        min_diagonal, min_side: Smallest boxes to train on, in px: RVT's 30 and 10 of GEN1 are those of the usual protocol.
        max_width: Widest boxes to train on, as a part of the sensor (RVT: 0.9 of GEN1).
        test_mode: Boxes stay as they are. In training they are cut at the sensor, and those of which nothing or too little is
            left are no labels.
        kwargs: mmdet's ``BaseDetDataset``: ``metainfo``, ``pipeline``, ``indices`` and others.

    Raises:
        RecordingError: (a ValueError) A folder, recording or file of boxes is missing or broken; it is named.
    """

    #: the data set's classes by their number in the files; None leaves boxes of it out
    LABELS: tuple[int | None, ...] = ()

    def __init__(
        self,
        data_root: str,
        split: str,
        samples: str = 'windows',
        window: int = 100_000,
        grid: int | None = None,
        sensor_size: Sequence[int] | None = None,
        index_dir: str | None = None,
        min_diagonal: float = 0.0,
        min_side: float = 0.0,
        max_width: float = 1.0,
        **kwargs,
    ) -> None:
        self.set_samples(data_root, split, samples, window, grid, sensor_size, index_dir)
        self.min_diagonal, self.min_side, self.max_width = min_diagonal, min_side, max_width
        super().__init__(data_root=data_root, **kwargs)
        self._metainfo |= dict(split=split, sensor_size=self.sensor_size)

    def recordings(self) -> Iterator[tuple[Path, np.ndarray]]:
        """Recordings, and the boxes of each as they are in the file, with the data set's labels as classes."""
        raise NotImplementedError

    def labelled(self, path: Path, offset: int = 0) -> np.ndarray:
        """The boxes of a file with the data set's labels as classes; ``offset`` us are added to their times."""
        classes = self.metainfo.get('classes')
        boxes = read_boxes(path, len(self.LABELS or classes or ()) or None)
        if self.LABELS:
            labels = np.array([-1 if label is None else label for label in self.LABELS])[boxes['class_id']]
            boxes = boxes[labels >= 0]
            boxes['class_id'] = labels[labels >= 0]
        boxes['t'] += offset
        return boxes

    def to_train_on(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes cut at the sensor, of sizes that are to be learned."""
        boxes = cut_boxes(boxes, self.sensor_size)
        return boxes[
            large_boxes(boxes, self.min_diagonal, self.min_side) & (boxes['w'] <= self.max_width * self.sensor_size[1])
        ]

    def load_data_list(self) -> list[dict]:
        """One dict a sample."""
        samples = []
        for path, boxes in self.recordings():
            known = boxes if self.test_mode else self.to_train_on(boxes)
            times = known['t']
            for window, sample in self.samples_of(path, times):
                there = known[np.searchsorted(times, window.end, 'left') : np.searchsorted(times, window.end, 'right')]
                sample['boxes'] = there if window.labelled else there[:0]
                sample['instances'] = [_instance(box) for box in sample['boxes']]
                sample['height'], sample['width'] = self.sensor_size
                samples.append(sample)
        return self.check_not_empty(samples, self.root)


def _instance(box: np.void) -> dict[str, Any]:
    left, top, width, height = (float(box[name]) for name in 'xywh')
    return dict(
        bbox=[left, top, left + width, top + height],
        bbox_label=int(box['class_id']),
        ignore_flag=0,
        track_id=int(box['track_id']),
    )


class _Prophesee(EventDetection):
    """Recordings ``NAME{suffix}`` with ``NAME_bbox.npy`` beside them, in the folder of their split or deeper."""

    LEFT_OUT: tuple[str, ...] = ()

    def __init__(self, *args, suffix: str = '_td.dat', **kwargs) -> None:
        self.suffix = suffix
        super().__init__(*args, **kwargs)

    def recordings(self) -> Iterator[tuple[Path, np.ndarray]]:
        folder = self.folder(self.split)
        ending = '_bbox.npy'
        names = {str(f).removesuffix(self.suffix) for f in folder.rglob(f'*{self.suffix}')}
        names |= {str(f).removesuffix(ending) for f in folder.rglob(f'*{ending}')}
        ordered = sorted(name for name in names if Path(name).name not in self.LEFT_OUT)
        files, labels = ([Path(name + end) for name in ordered] for end in (self.suffix, ending))
        check_same_length(files, labels, 'boxes')
        for file, label in zip(files, labels, strict=True):
            yield file, self.labelled(label)

    def start_of(self, recording: Path) -> int:
        return 0  # times count from the beginning of a recording


@DATASETS.register_module()
class Gen1(_Prophesee):
    """GEN1 (arXiv 2001.08499): 39 hours of driving before an ATIS of 304 x 240 px, cars and pedestrians at 1 to 4 Hz.

    ``data_root`` holds train/, val/ and test/ with ``*_td.dat`` and ``*_bbox.npy``, or deeper folders with them.

    Args:
        suffix: What recordings are called behind the name that they share with their boxes; of RVT's copies '_td.dat.h5'.
        kwargs: See :class:`EventDetection`.
    """

    METAINFO = dict(classes=('car', 'pedestrian'), palette=[(220, 20, 60), (0, 160, 230)], camera='gen1')
    SENSOR_SIZE = (240, 304)
    LEFT_OUT = GEN1_WITHOUT_LABELS


@DATASETS.register_module()
class OneMegapixel(_Prophesee):
    """The 1 Mpx data set (arXiv 2009.13436): 15 hours of driving at 1280 x 720 px, boxes of a detector at 30 or 60 Hz.

    Of its seven classes pedestrians, two-wheelers and cars are used, as published. Layout and arguments as of :class:`Gen1`.
    """

    METAINFO = dict(
        classes=('pedestrian', 'two-wheeler', 'car'), palette=[(0, 160, 230), (255, 170, 0), (220, 20, 60)], camera='1mpx'
    )
    SENSOR_SIZE = (720, 1280)
    LABELS = (0, 1, 2, None, None, None, None)


@DATASETS.register_module()
class DSECDet(EventDetection):
    """DSEC-Det (Nature 629, 2024): 60 drives before a camera of 640 x 480 px, boxes and tracks of eight classes at 20 Hz.

    ``data_root`` is that of DSEC, with train/ and test/: ``<recording>/events/left/events.h5`` and
    ``<recording>/object_detections/left/tracks.npy``. Those to validate on are zurich_city_16_a to 21_a of train/.

    Args:
        two_classes: Cars (with buses and trucks) and pedestrians alone, as DAGr has them; its boxes are those of images, which
            its labels are the time of.
        kwargs: See :class:`EventDetection`.
    """

    METAINFO = dict(
        classes=('pedestrian', 'rider', 'car', 'bus', 'truck', 'bicycle', 'motorcycle', 'train'),
        palette=[
            (0, 160, 230),
            (255, 170, 0),
            (220, 20, 60),
            (120, 40, 200),
            (90, 90, 90),
            (60, 180, 75),
            (240, 50, 230),
            (0, 0, 128),
        ],
        camera='dsec',
    )
    TWO_CLASSES = dict(classes=('car', 'pedestrian'), palette=[(220, 20, 60), (0, 160, 230)])
    SENSOR_SIZE = (480, 640)
    LABELS = tuple(range(8))

    def __init__(self, *args, two_classes: bool = False, metainfo: dict | None = None, **kwargs) -> None:
        if two_classes:
            metainfo = self.TWO_CLASSES | (metainfo or {})
            self.LABELS = (1, None, 0, 0, 0, None, None, None)
        super().__init__(*args, metainfo=metainfo, **kwargs)

    def recordings(self) -> Iterator[tuple[Path, np.ndarray]]:
        folder = self.folder('test' if self.split == 'test' else 'train')
        found = sorted(f for f in folder.iterdir() if f.is_dir())
        if self.split != 'test':
            found = [f for f in found if (f.name in DSEC_DET_VAL) == (self.split == 'val')]
        files = [f / 'events' / 'left' / 'events.h5' for f in found]
        labels = [f / 'object_detections' / 'left' / 'tracks.npy' for f in found]
        check_same_length(files, labels, 'boxes')
        for file, label in zip(files, labels, strict=True):
            if file.exists():
                yield file, self.labelled(label)


@DATASETS.register_module()
class NCaltech101Boxes(EventDetection):
    """N-Caltech101 (Orchard et al. 2015) with a box for the thing that each recording shows, at its end.

    ``data_root`` holds ``Caltech101/<class>/image_*.bin`` and ``Caltech101_annotations/<class>/annotation_*.bin``. Recordings
    of the background are left out. There is no published division: ``share`` takes a part of every class's recordings, in the
    order of their numbers.

    Args:
        share: The part, such as (0.0, 0.8) to train on.
        kwargs: See :class:`EventDetection`; ``split`` is a name alone, ``window`` is by default the whole recording.
    """

    SENSOR_SIZE = (180, 240)
    BACKGROUND = 'BACKGROUND_Google'
    END = 300_000  # us; three saccades of 100 ms

    def __init__(self, *args, share: Sequence[float] = (0.0, 1.0), **kwargs) -> None:
        if len(share) != 2 or not 0 <= share[0] < share[1] <= 1:
            raise ValueError(f'share must be the two ends of a part of the recordings, between 0 and 1, got {share}')
        self.share = tuple(share)
        kwargs.setdefault('window', self.END)
        super().__init__(*args, **kwargs)

    def recordings(self) -> Iterator[tuple[Path, np.ndarray]]:
        root, annotations = self.folder('Caltech101'), self.folder('Caltech101_annotations')
        folders = sorted(f for f in root.iterdir() if f.is_dir() and f.name != self.BACKGROUND)
        if self.metainfo.get('classes') is None:
            self._metainfo['classes'] = tuple(f.name for f in folders)
        names = list(self.metainfo['classes'])
        for folder in folders:
            if folder.name not in names:
                raise RecordingError(f'{folder} is no class of the config, which has {names}')
            files = sorted(folder.glob('image_*.bin'))
            labels = [annotations / folder.name / f.name.replace('image_', 'annotation_') for f in files]
            check_same_length(files, labels, 'boxes')
            first, last = (round(part * len(files)) for part in self.share)
            for file, label in zip(files[first:last], labels[first:last], strict=True):
                yield file, self._box(label, names.index(folder.name))

    def _box(self, path: Path, label: int) -> np.ndarray:
        """Behind the number of rows and columns, corners (x, y) of the box: left top, right top, right bottom, …"""
        with named(path):
            numbers = np.fromfile(path, '<i2')
            if len(numbers) < 10:
                raise ValueError(f'it has {len(numbers)} numbers, expected two and the four corners of a box')
        left, top, right, bottom = (int(numbers[i]) for i in (2, 3, 4, 7))
        if right <= left or bottom <= top:
            raise RecordingError(f'{path} has the box {left, top, right, bottom}, expected left < right and top < bottom')
        return np.array([(self.END, left, top, right - left, bottom - top, label, -1, 1)], BOX)

    def start_of(self, recording: Path) -> int:
        return 0
