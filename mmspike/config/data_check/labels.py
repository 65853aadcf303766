"""Label images of mmseg and mmdet: kind of file, size, and their values against the classes."""

import os.path as osp
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmspike.utils.files import stand_in

from .classes import listed
from .findings import Clock, Report, Tally
from .pictures import EXIF_ADVICE, NAMES, loaded_size, loads_upright, missing_files, nearby
from .sources import Source, hushed

IGNORED = 255  # what LoadAnnotations of the hosts makes of labels that are not learned
COLOURS = 'it has a palette, which OpenCV turns into colours: set imdecode_backend={!r} in LoadAnnotations of every pipeline'


def label_values(path: str, palette: bool = True) -> tuple[np.ndarray, tuple[int, int]]:
    """Count the values of a label image, as the hosts read it; also (width, height).

    Args:
        palette: Of an image with a palette its numbers are read, as Pillow does it; else the colours.

    Raises:
        ValueError: It has more than one channel, or values that do not fit into 8 bits, or cannot be read.
    """
    try:
        with Image.open(path) as image:
            if image.mode == 'P' and not palette:
                raise ValueError(COLOURS.format('pillow'))
            array = np.array(image)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f'it cannot be read ({type(error).__name__}: {error}): replace it{stand_in(path)}') from error
    array = array.squeeze()
    if array.ndim != 2:
        raise ValueError(
            f'it is a colour image of {array.shape[-1]} channels, expected one channel with the number of the class (a palette '
            'is fine): write the numbers anew, colour by colour'
        )
    if array.dtype.kind not in 'bui' or (array.size and (array.min() < 0 or array.max() > 255)):
        raise ValueError(
            f'its values go from {array.min()} to {array.max()} ({array.dtype}): expected '
            'classes from 0 and 255 for what is not learned, in 8 bits'
        )
    return np.bincount(array.ravel().astype(np.uint8), minlength=256), array.shape[::-1]


def readable_labels(
    pairs: Iterable[tuple[str, Any]], palette: bool, faults: Tally
) -> Iterator[tuple[str, Any, np.ndarray, tuple[int, int]]]:
    """Label images and what belongs to each, with their :func:`label_values`; those that cannot be read become faults."""
    for path, other in pairs:
        try:
            values, size = label_values(path, palette)
        except ValueError as error:
            faults.add(str(error)[:12], f'{path}: {error}')
            continue
        yield path, other, values, size


def reads_palette(loader: dict, host: str) -> bool:
    """True if LoadAnnotations reads the numbers of a palette, not its colours."""
    return loader.get('imdecode_backend', 'cv2' if host == 'mmdet' else 'pillow') == 'pillow'


def reduces(source: Source) -> bool:
    """True if 0 is not learned, and classes count from 1: an option of the data set, in mmdet of LoadAnnotations."""
    loader = source.transform('LoadAnnotations') or {}
    return bool(getattr(source.dataset, 'reduce_zero_label', loader.get('reduce_zero_label')))


def learned_values(source: Source) -> np.ndarray:
    """The class, or 255, that LoadAnnotations makes of each of the 256 values."""
    dataset, table = source.dataset, np.arange(256)
    if reduces(source):
        table = np.where((table == 0) | (table == 255), IGNORED, table - 1)
    chosen = getattr(dataset, 'label_map', None) or {}
    return np.array([chosen.get(value, value) for value in table.tolist()])


def _value_faults(
    report: Report,
    source: Source,
    classes: list[str],
    counts: np.ndarray,
    where: dict,
    seen: str,
    complete: bool,
    unlearned: set[int],
) -> None:
    """Compare the values of all labels with the classes.

    Args:
        counts: Pixels of each value, 0 to 255.
        where: For each value the first file that has it, and how many have.
        seen: What was looked at, in words.
        complete: All files were.
        unlearned: Labels that nobody learns.
    """
    dataset = source.dataset
    found = [int(value) for value in np.flatnonzero(counts)]
    reduce = reduces(source)
    table = learned_values(source)
    ignored = {IGNORED, getattr(dataset, 'ignore_index', IGNORED)} | unlearned
    number = len(classes)
    wrong = [value for value in found if table[value] >= number and int(table[value]) not in ignored]
    shown = f'{found}' if len(found) <= 12 else f'{str(found[:12])[:-1]}, …]'
    learned = {int(table[value]) for value in found} - ignored
    setting = f'reduce_zero_label={reduce}'
    if wrong:
        file, files, _ = where[wrong[0]]
        advice = (
            f'take them to 0 … {number - 1}, write 255 where nothing is to be learned, or name the classes that are missing'
        )
        if not reduce and min(found) >= 1 and max(v for v in found if v != IGNORED) == number:
            advice = 'the classes are counted from 1: reduce_zero_label=True counts them from 0 (0 is then not learned)'
        elif set(found) <= {0, IGNORED} or len(wrong) > 8:
            advice = 'are these grey values of a mask or colours? Write the number of the class instead'
        report.stop(
            source.place,
            f'{file} has the value {wrong[0]} ({files} of {seen}; values found: {shown}), but {number} classes '
            f'({listed(classes, 4)}) with {setting} take {int(reduce)} to {number - 1 + reduce}, and 255: {advice}',
        )
    elif not learned or (number > 1 and set(found) == {0, IGNORED} and where[IGNORED][1] >= 0.1 * where[IGNORED][2]):
        share = counts[IGNORED] / counts.sum()
        binary = number == 2 and IGNORED in found and set(found) <= {0, IGNORED}
        missing = [name for i, name in enumerate(classes) if i not in learned]
        report.stop(
            source.place,
            f'the labels have the values {shown} only (in {seen}; 255 is {share:.1%} of the pixels), and with {setting} '
            f'{"nothing is left to learn" if not learned else "255 is not learned"}: {listed(missing)} '
            f'{"occurs" if len(missing) == 1 else "occur"} in no label. '
            + (
                'A mask of 0 and 255 is written anew with 0 and 1: (label == 255).astype(np.uint8), and reduce_zero_label=False'
                if binary or not reduce
                else f'Classes are numbered from {int(reduce)}; is reduce_zero_label=False meant?'
            ),
        )
    else:
        missing = [name for i, name in enumerate(classes) if i not in learned]
        if missing and complete:
            dropped = (
                f'; 0 is not learned ({counts[0] / counts.sum():.1%} of the pixels, {setting})' if reduce and counts[0] else ''
            )
            report.doubt(source.place, f'{listed(missing)} in no label (values found: {shown}{dropped})')
        gone = sum(counts[value] for value in found if int(table[value]) in ignored)
        if gone > 0.5 * counts.sum():
            report.doubt(source.place, f'{gone / counts.sum():.1%} of the pixels are not learned (255, {setting})')


def ignored_values(model: dict) -> set[int]:
    """Labels that the heads of a model leave out of the loss, besides 255."""
    heads = [model.get(name) or [] for name in ('decode_head', 'auxiliary_head')]
    flat = [head for given in heads for head in (given if isinstance(given, list | tuple) else [given])]
    return {head['ignore_index'] for head in flat if isinstance(head.get('ignore_index'), int)}


def check_labels(report: Report, source: Source, clock: Clock, host: str, unlearned: set[int]) -> None:
    """Look at the label images of a data set whose items have ``seg_map_path``.

    Args:
        host: mmseg or mmdet, whose LoadAnnotations read palettes in different ways.
        unlearned: Labels that the heads leave out, see :func:`ignored_values`.
    """
    dataset = source.dataset
    try:
        with hushed():
            items = dataset.load_data_list()
    except (OSError, AssertionError, ValueError) as error:
        report.stop(source.place, f'the list of its pictures cannot be made: {type(error).__name__}: {error}')
        return
    folder = dataset.data_prefix.get('img_path') or ''
    if not items:
        suffix = getattr(dataset, 'img_suffix', '')
        report.stop(
            source.place,
            f'0 pictures are left: {nearby(osp.join(folder, "x" + suffix))}, and img_suffix is {suffix!r}: expected pictures '
            "of that suffix in data_prefix['img_path'], or their names without suffix in ann_file",
        )
        return
    folders = {part for item in items for part in Path(osp.relpath(item['img_path'], folder or '.')).parent.parts}
    if hidden := sorted(name for name in folders if name.startswith('.') and name != '..'):
        report.stop(
            source.place,
            f'the hidden folder {osp.join(folder, hidden[0])} holds pictures, which would be learned: remove it',
        )
    classes = source.classes
    loader = source.transform('LoadAnnotations')
    if loader and not any(item.get('seg_map_path') for item in items):
        report.stop(
            source.place,
            f'the pipeline has LoadAnnotations, but data_prefix={dict(dataset.data_prefix)} names no label images: add '
            "seg_map_path='FOLDER', or take LoadAnnotations out",
        )
        return
    names = clock.sample(items, NAMES)
    pairs = [(item['img_path'], item.get('seg_map_path') if loader else None) for item in names]
    for what, option, paths in (
        ('pictures', 'img_suffix', [picture for picture, _ in pairs]),
        ('label images', 'seg_map_suffix', [label for _, label in pairs if label]),
    ):
        if text := missing_files([path for path in paths if '://' not in path], what):
            suffix = getattr(dataset, option, '')
            twice = dataset.ann_file and any(path.endswith(suffix * 2) for path in paths if suffix)
            hint = f'. A line of {osp.basename(dataset.ann_file)} is a name without suffix' if twice else ''
            report.stop(source.place, f'{text}. {option} is {suffix!r}{hint}')
    there = [(label, p) for p, label in pairs if label and osp.isfile(label) and osp.isfile(p)]
    if not loader or classes is None or not there:
        report.row(
            source.place, source.name, f'{len(items)} images', 'labels are not loaded' if not loader else 'labels are missing'
        )
        return
    if host == 'mmseg' and loader.get('reduce_zero_label') not in (None, (own := bool(dataset.reduce_zero_label))):
        given = loader['reduce_zero_label']
        report.stop(
            source.place,
            f'its reduce_zero_label is {own}, in LoadAnnotations of its pipeline it is {given}: set it in the data set, '
            'and take it out of LoadAnnotations',
        )
    if lossy := sorted(label for label, _ in there if label.lower().endswith(('.jpg', '.jpeg'))):
        report.doubt(source.place, f'{len(lossy)} label images are JPEG, such as {lossy[0]}: it changes the numbers, write PNG')
    upright, palette = loads_upright(source), reads_palette(loader, host)
    sample = clock.sample(there)
    counts = np.zeros(256, np.int64)
    files: Counter[int] = Counter()
    first: dict[int, str] = {}
    faults = Tally()
    for label, picture, values, size in readable_labels(sample, palette, faults):
        counts += values
        for value in np.flatnonzero(values).tolist():
            files[value] += 1
            first.setdefault(value, label)
        if upright is None:
            continue
        try:
            width, height, turned = loaded_size(picture, upright)
        except (ValueError, OSError) as error:
            faults.add('picture', f'{picture}: {error}. Replace the file')
            continue
        if (width, height) != size:
            text = f'{label} has {size[0]} x {size[1]} px (width x height), its picture {picture} {width} x {height}. '
            turned = turned and (height, width) == size
            faults.add(('size', turned), text + (EXIF_ADVICE if turned else 'Both need the same size'))
    report.tally(source.place, faults, 'files')
    seen = sample.share('labels')
    if counts.sum():
        looked = sum(files.values()) and sample.seen
        where = {value: (first[value], files[value], looked) for value in first}
        _value_faults(
            report, source, classes, counts, where, f'{sample.seen} labels', sample.complete and names.complete, unlearned
        )
    share = counts[learned_values(source) == IGNORED].sum() / max(int(counts.sum()), 1)
    text = f'{len(items)} images, {len(classes)} classes, {share:.1%} of the pixels not learned (255)'
    report.row(source.place, source.name, text, seen)
