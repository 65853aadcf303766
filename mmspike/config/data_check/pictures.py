"""Files of pictures: whether they are there, their size as the pipeline loads them, turned by EXIF or not."""

import os
import os.path as osp
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mmspike.utils.files import stand_in

from .findings import Clock, Report, Tally
from .sources import Source

LOADERS = ('LoadImageFromFile',)
NAMES = 10000  # file names that are looked up of each data set
EXIF_ADVICE = (
    'Its EXIF data say that it is to be turned, which loading does; the file as it is stored has the other size. Turn the '
    'files themselves (for example exiftran -ai, or PIL.ImageOps.exif_transpose), write sizes and coordinates of the turned '
    "pictures, or set color_type='color_ignore_orientation' in LoadImageFromFile of every pipeline"
)


def nearby(path: str) -> str:
    """The nearest to a path that does not exist: the same name with another suffix, or the content of its folder."""
    target = Path(path)
    parent = target.parent
    if target.is_symlink():
        return f'it is a link to {os.readlink(target)}, which does not exist'
    if '\\' in target.name:
        return 'its name has the \\ of Windows, write /'
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        return f'{parent} is no folder'
    names = sorted(name for name in os.listdir(parent) if not name.startswith('.'))
    same = [name for name in names if parent == target.parent and Path(name).stem == target.stem]
    if same:
        return f'there is {same[0]}'
    if parent != target.parent and (parent / target.name).exists():
        return f'there is {parent / target.name}'
    if not names:
        return f'{parent} is empty'
    return f'{parent} holds {", ".join(names[:5])}{f", … ({len(names)})" if len(names) > 5 else ""}'


def missing_files(paths: Sequence[str], things: str) -> str | None:
    """A text with the number of paths that are no files, and with what lies near the first; None if all are there."""
    missing = sorted(path for path in paths if not osp.isfile(path))
    if not missing:
        return None
    return f'{len(missing)} of {len(paths)} {things} do not exist, the first is {missing[0]}: {nearby(missing[0])}'


def loads_upright(source: Source) -> bool | None:
    """True if the pipeline's loader turns pictures as their EXIF data say; None if it is not the ordinary loader."""
    loader = source.transform(*LOADERS)
    if loader is None or any(loader.get(key) for key in ('backend_args', 'file_client_args')):
        return None
    flag = loader.get('color_type', 'color')
    return flag in ('color', 'grayscale') and loader.get('imdecode_backend', 'cv2') != 'turbojpeg'


def loaded_size(path: str, upright: bool) -> tuple[int, int, bool]:
    """Width and height of the picture as it is loaded, and whether loading turned it by 90 degrees.

    The header is read; files that Pillow does not know are decoded by OpenCV.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = upright and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (height, width, True) if turned else (width, height, False)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        pass
    if not osp.getsize(path):
        raise ValueError('the file is empty (0 bytes)')
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR if upright else cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError(f'it is no picture that Pillow or OpenCV can read{stand_in(path)}')
    return array.shape[1], array.shape[0], False


def check_pictures(
    report: Report, source: Source, expected: Sequence[tuple[str, tuple | None]], said_by: str, clock: Clock
) -> str:
    """Look whether the pictures of a data set exist, and have the sizes that its annotations say.

    Args:
        expected: Path of each picture, and (width, height) or None.
        said_by: The file that says the sizes.

    Returns:
        How much was looked at, in words.
    """
    upright = loads_upright(source)
    local = [(path, size) for path, size in expected if '://' not in path]
    if upright is None or not local:
        reason = 'not on this disk' if upright is not None else 'no ordinary LoadImageFromFile'
        return f'pictures not checked ({reason})' if expected else 'no pictures'
    skips = (source.transform(*LOADERS) or {}).get('on_error') == 'skip'
    if text := missing_files([path for path, _ in clock.sample(local, NAMES)], 'pictures'):
        text += f'. Expected are the names of {said_by} under data_root and data_prefix'
        report.add(source.place, not skips, text + (" (on_error='skip' leaves them out)" if skips else ''))
    there = [(path, size) for path, size in local if osp.isfile(path)] if len(local) <= NAMES else local
    sample = clock.sample(there)
    faults, sizes = Tally(), Tally()
    for path, size in sample:
        if not osp.isfile(path):
            continue
        try:
            width, height, turned = loaded_size(path, upright)
        except (ValueError, OSError, cv2.error) as error:
            faults.add('unreadable', f'{path}: {error}. Replace the file, or take it out of the annotations')
            continue
        if size is not None and (width, height) != tuple(size):
            text = f'{path} is loaded with {width} x {height} px (width x height), but {said_by} says {size[0]} x {size[1]}. '
            turned = turned and (height, width) == tuple(size)
            sizes.add(turned, text + (EXIF_ADVICE if turned else 'Write the true sizes, with coordinates that belong to them'))
    report.tally(source.place, faults, 'files', stops=not skips)
    wrong = sum(sizes.counts.values())
    # a single one among very many is not a reason to stop
    report.tally(source.place, sizes, 'pictures', stops=wrong > 0.01 * sample.seen)
    return sample.share('pictures')


def suffixes(names: list[str]) -> str:
    """Number of files of each suffix."""
    counts = Counter(Path(name).suffix.lower() or 'without suffix' for name in names)
    return ', '.join(f'{count} {suffix}' for suffix, count in counts.most_common(6))
