"""Data sets of event cameras for mmpretrain. Needs mmpretrain.

They read the files as they are published, and the folders which spikingjelly's classes of the same names prepare from them.
"""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from mmspike.registry import DATASETS

from .readers import READ, UNREAD
from .recording import RecordingError, unreadable

CIFAR10_CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
GESTURES = (
    'hand clapping',
    'right hand wave',
    'left hand wave',
    'right arm clockwise',
    'right arm counter clockwise',
    'left arm clockwise',
    'left arm counter clockwise',
    'arm roll',
    'air drums',
    'air guitar',
    'other gestures',
)


def _natural_key(path: Path) -> list:
    """Numbers in a name count as numbers: a_2 before a_10."""
    return [(0, int(s), '') if s.isdigit() else (1, 0, s) for s in re.split(r'(\d+)', path.name) if s]


def _recordings(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Files and folders of frames in ``folder``, and how many other files it has by suffix. Hidden ones do not count.

    Raises:
        RecordingError: Some are recordings in a format that is not read: the rest would be taken for all.
    """
    found = [f for f in folder.iterdir() if not f.name.startswith('.')]
    unread = sorted(f for f in found if f.suffix.lower() in UNREAD and f.is_file())
    if unread:
        raise RecordingError(
            f'{folder} has {len(unread)} recordings of formats that are not read, such as {unread[0].name}, beside those of '
            f'{list(READ)}: convert them to .npz (arrays t, x, y, p), or move them elsewhere'
        )
    files = sorted((f for f in found if f.suffix.lower() in READ or f.is_dir()), key=_natural_key)
    return files, Counter(f.suffix.lower() for f in found) - Counter(f.suffix.lower() for f in files)


@DATASETS.register_module()
class EventFolders(BaseDataset):
    """Recordings in class folders, or listed in a file; the base of the data sets below.

    A sample has ``events_path``, ``gt_label`` and ``sensor_size``; :class:`mmspike.LoadEvents` or
    :class:`mmspike.LoadEventFrames` reads it.

    Args:
        data_root: Folder of the data set.
        ann_file: File with lines ``path label``, paths under ``data_prefix``. Empty: every folder in ``data_prefix`` is a
            class, named as the class or, counted from 0, by its number; without known classes they are the sorted folders.
            Names that begin with a dot are left out.
        data_prefix: Folder of the recordings under ``data_root``.
        share: With class folders, the part of every class's recordings that is taken, in the order of their names (numbers
            count as numbers): (0.0, 0.9) to train and (0.9, 1.0) to test on. All by default.
        sensor_size: Height and width of the sensor in px; by default that of the data set.
        kwargs: mmpretrain's ``BaseDataset``: ``metainfo`` or ``classes``, ``pipeline``, ``indices`` and others.

    Raises:
        RecordingError: (a ValueError) A folder or file is missing, holds no recordings or some in a format that is not read,
            or a label does not fit; it is named.
    """

    SENSOR_SIZE: tuple[int, int] | None = None

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        data_prefix: str | dict = '',
        share: Sequence[float] = (0.0, 1.0),
        sensor_size: Sequence[int] | None = None,
        **kwargs,
    ) -> None:
        if len(share) != 2 or not 0 <= share[0] < share[1] <= 1:
            raise ValueError(f'share must be the two ends of a part of the recordings, between 0 and 1, got {share}')
        self.share = tuple(share)
        self.sensor_size = self.SENSOR_SIZE if sensor_size is None else tuple(sensor_size)
        super().__init__(ann_file=ann_file, data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One dict a sample: ``events_path``, ``gt_label``, ``sensor_size`` and, of a part of a recording, ``interval``."""
        samples = self._listed() if self.ann_file else self._found()
        if not samples:
            raise RecordingError(f'{self.ann_file or self.img_prefix} has no recordings for {type(self).__name__}')
        return [dict(sample, sensor_size=self.sensor_size) for sample in samples]

    def _found(self) -> list[dict]:
        root = Path(self.img_prefix or '.')
        if not root.is_dir():
            raise RecordingError(f'{root} does not exist: {type(self).__name__} needs a folder with one folder a class')
        folders = sorted((f for f in root.iterdir() if f.is_dir() and not f.name.startswith('.')), key=_natural_key)
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(f.name for f in folders)
        labels = {str(i): i for i in range(len(self.CLASSES))} | self.class_to_idx
        samples = []
        left_out: Counter[str] = Counter()
        for folder in folders:
            if folder.name not in labels:
                raise RecordingError(f'{folder} is no class of {type(self).__name__}: expected some of {list(self.CLASSES)}')
            files, others = _recordings(folder)
            left_out += others
            if not files:
                print_log(f'{folder} has no recording: its class has no sample here', 'current', logging.WARNING)
            first, last = (round(part * len(files)) for part in self.share)
            samples += [dict(events_path=str(f), gt_label=labels[folder.name]) for f in files[first:last]]
        if left_out:
            counts = ', '.join(f'{number} {suffix or "without suffix"}' for suffix, number in left_out.most_common())
            print_log(f'Files under {root} that are no recordings are left out: {counts}', 'current', logging.WARNING)
        return samples

    def _lines(self) -> list[str]:
        """Lines of the annotation file that are not empty."""
        try:
            lines = Path(self.ann_file).read_text(encoding='utf-8').splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecordingError(f'cannot read the list of recordings {self.ann_file}: {error}') from error
        return [line.strip() for line in lines if line.strip()]

    def _listed(self) -> list[dict]:
        return [self._parse(line) for line in self._lines()]

    def _parse(self, line: str) -> dict:
        """The sample of a line ``path label``."""
        path, _, label = line.rpartition(' ')
        number = len(self.CLASSES) if self.CLASSES else None
        if not path or not label.isdigit() or (number is not None and int(label) >= number):
            wanted = 'a number' if number is None else f'0 to {number - 1}'
            raise RecordingError(f'{self.ann_file}: {line!r} is no path and label ({wanted})')
        return dict(events_path=str(Path(self.img_prefix) / path), gt_label=int(label))


@DATASETS.register_module()
class NMNIST(EventFolders):
    """N-MNIST (Orchard et al. 2015): 60000 + 10000 digits shown to a moving sensor of 34 x 34 px, 3 saccades in 0.3 s.

    ``data_root`` holds Train/<digit>/*.bin and Test/<digit>/*.bin; ``data_prefix`` says which. See :class:`EventFolders`.
    """

    METAINFO = dict(classes=tuple('0123456789'))
    SENSOR_SIZE = (34, 34)


@DATASETS.register_module()
class NCaltech101(EventFolders):
    """N-Caltech101 (Orchard et al. 2015): 8709 recordings in 101 class folders of .bin files, at most 180 x 240 px, 0.3 s.

    There is no published division: ``share`` makes one. See :class:`EventFolders`.
    """

    SENSOR_SIZE = (180, 240)


@DATASETS.register_module()
class CIFAR10DVS(EventFolders):
    """CIFAR10-DVS (Li et al. 2017): 10000 pictures before a DVS128, 1000 .aedat files (AEDAT 2.0) a class, 128 x 128 px.

    There is no published division. Common are recordings 0 to 99 of every class as test set: ``share=(0.0, 0.1)``, and
    ``share=(0.1, 1.0)`` to train. See :class:`EventFolders`.
    """

    METAINFO = dict(classes=CIFAR10_CLASSES)
    SENSOR_SIZE = (128, 128)


@DATASETS.register_module()
class DVS128Gesture(EventFolders):
    """DVS128 Gesture (Amir et al., CVPR 2017): 11 gestures of 29 people before a DVS128, 128 x 128 px.

    With ``ann_file='trials_to_train.txt'`` or ``'trials_to_test.txt'`` it reads the published files: a list of AEDAT 3.1
    recordings, and for each a ``*_labels.csv`` with class (from 1), start and end in us of every gesture: 1176 + 288 samples.
    Without, it reads class folders, as spikingjelly makes them. A recording is decoded as a whole for each of its gestures, so
    class folders of .npz files load faster. See :class:`EventFolders`.
    """

    METAINFO = dict(classes=GESTURES)
    SENSOR_SIZE = (128, 128)

    def _listed(self) -> list[dict]:
        samples = []
        for line in self._lines():
            if not line.endswith('.aedat'):
                samples.append(self._parse(line))
                continue
            path = Path(self.img_prefix) / line
            table = path.with_name(f'{path.stem}_labels.csv')
            try:
                rows = np.loadtxt(table, np.int64, delimiter=',', skiprows=1, ndmin=2)
            except (OSError, ValueError) as error:
                raise unreadable(path, f'its gestures {table} cannot be read: {error}') from error
            for row in rows:
                if len(row) != 3 or not 1 <= row[0] <= len(GESTURES) or row[1] >= row[2]:
                    raise unreadable(path, f'{table} has {row.tolist()}, expected class 1 to {len(GESTURES)}, start, end')
                gesture, start, end = row.tolist()
                samples.append(dict(events_path=str(path), gt_label=gesture - 1, interval=(start, end)))
        return samples


@DATASETS.register_module()
class HARDVS(EventFolders):
    """HAR-DVS (Wang et al., AAAI 2024): 107646 recordings of 300 activities before a DAVIS346, 260 x 346 px.

    ``ann_file`` is the published ``train_label.txt``, ``val_label.txt`` or ``test_label.txt``, whose lines begin with
    ``action_001/dvSave-…``; the class is that of the folder.

    Args:
        suffix: What follows that name on disk: '' or '_dvs' where it is a folder of frames
            (:class:`mmspike.LoadEventFrames`), '.npz' for the compact event files (:class:`mmspike.LoadEvents`).
        kwargs: See :class:`EventFolders`.
    """

    METAINFO = dict(classes=tuple(f'action_{i:03d}' for i in range(1, 301)))
    SENSOR_SIZE = (260, 346)

    def __init__(self, *args, suffix: str = '', **kwargs) -> None:
        self.suffix = suffix
        super().__init__(*args, **kwargs)

    def _parse(self, line: str) -> dict:
        name = line.split()[0]
        label = self.class_to_idx.get(name.split('/')[0])
        if label is None or '/' not in name:
            raise RecordingError(f'{self.ann_file}: {line!r} does not begin with action_001/… to action_300/…')
        return dict(events_path=str(Path(self.img_prefix) / f'{name}{self.suffix}'), gt_label=label)
