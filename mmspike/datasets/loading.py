"""Images that cannot be read: named, or left out and counted."""

import logging
from pathlib import Path

import cv2
import torch
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mmspike.registry import TRANSFORMS
from mmspike.utils.errors import UserError
from mmspike.utils.files import reading_fault

ON_ERROR = ('raise', 'skip')
# pictures that OpenCV decodes
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
MAX_WORKERS = 256  # each counts in a slot of its own: no lock


class LoadingError(UserError, ValueError):
    """An image that cannot be read; the message names it."""


class _SharedCounter:
    """Counts over all worker processes of a data loader, however they are started."""

    def __init__(self) -> None:
        self.slots = torch.zeros(MAX_WORKERS, dtype=torch.int64).share_memory_()

    def increment(self) -> None:
        worker = get_worker_info()
        self.slots[0 if worker is None else worker.id % MAX_WORKERS] += 1

    def total(self) -> int:
        return int(self.slots.sum())

    def __deepcopy__(self, memo: dict) -> '_SharedCounter':
        return self  # a copied pipeline, as in a subset of a dataset, goes on counting here


class SkipsFaults:
    """A transform that reads files: with ``on_error='skip'`` it leaves out those that cannot be read.

    The transform then gives None, for which mmengine's datasets draw another sample in training, and raise in testing.
    """

    def _set_on_error(self, on_error: str) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f'on_error={on_error!r}: expected one of {ON_ERROR}')
        self.on_error = on_error
        self.skipped = _SharedCounter()

    def _skip(self, what: str) -> None:
        """Count and log a file, ``what`` says which and why."""
        self.skipped.increment()
        print_log(f'Skipped {what}', 'current', logging.WARNING)


def _same_stem(path: str) -> str:
    """A word on files that are called as a missing one but for the suffix."""
    file = Path(path)
    if file.exists() or not file.parent.is_dir():
        return ''
    found = sorted(f.name for f in file.parent.iterdir() if f.stem == file.stem)
    return f'; there is {" and ".join(found)}: the suffix is img_suffix of the data set' if found else ''


@TRANSFORMS.register_module()
class LoadImageFromFile(SkipsFaults, MMCVLoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that names the file which cannot be read or decoded, or skips and counts it.

    Args:
        on_error: ``'raise'`` (default) raises LoadingError (a ValueError) with the file's name. ``'skip'`` logs the name,
            counts it and lets the dataset draw another sample in its place; ``mmspike.SkippedImagesHook`` reports the count.
            Skipping works in training only: a test score over fewer images is not a score on the test set.
        kwargs: what mmcv's transform takes; ``ignore_empty`` is replaced by ``on_error``.
    """

    def __init__(self, on_error: str = 'raise', **kwargs) -> None:
        self._set_on_error(on_error)
        if 'ignore_empty' in kwargs:
            raise TypeError("ignore_empty is not taken here: use on_error='skip'")
        super().__init__(**kwargs)

    def transform(self, results: dict) -> dict | None:
        path = results['img_path']
        try:
            return super().transform(results)
        except (OSError, AssertionError, ValueError, cv2.error) as error:  # what reading and mmcv's decoders raise
            reason = reading_fault(path, error) + _same_stem(path)
            if self.on_error == 'raise':
                raise LoadingError(
                    f'cannot load image {path} ({reason}). Replace the file, take it out of the annotations, or set '
                    "on_error='skip' in mmspike.LoadImageFromFile to train without it"
                ) from error
        self._skip(f'image {path} ({reason})')
        return None
