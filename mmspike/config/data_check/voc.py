"""Annotations of Pascal VOC's form, an XML for each picture, against their data set: names, boxes, pictures that are left."""

import os.path as osp
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from mmspike.utils.files import stand_in

from .classes import filter_fault, listed, nearest
from .findings import Clock, Report, Sample, Tally
from .pictures import check_pictures, missing_files
from .sources import Source

FILES = 10000  # XML files that are read of each data set
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


class FormFault(Exception):
    """mmdet cannot read an XML; ``args`` are the kind of fault and what it is."""


class Labels(NamedTuple):
    """An XML: (width, height) of its picture and the folder it names, where given; name, corners and "difficult" of objects."""

    size: tuple[int, int] | None
    folder: str | None
    objects: list[tuple[str, list[int], bool]]


def _number(parent: ElementTree.Element, key: str, name: str) -> int:
    """The number in a child, as mmdet reads it."""
    text = parent.findtext(key)
    if text is None:
        raise FormFault(key, f'{name} has no <{key}>')
    try:
        return int(text) if key in ('width', 'height', 'difficult') else int(float(text))
    except (ValueError, OverflowError):
        raise FormFault(key, f'{name} has {key} {text!r}: expected a whole number') from None


def _read(path: str) -> Labels:
    """Read an XML as mmdet does.

    Raises:
        FormFault: mmdet cannot read it.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        known = stand_in(path)
        raise FormFault('xml', f'no valid XML ({error})' + (known or ', perhaps cut off while copying')) from None
    size = root.find('size')
    objects = []
    for number, item in enumerate(root.findall('object'), 1):
        name = f'object {number}'
        box, text = item.find('bndbox'), item.findtext('name')
        if text is None or box is None:
            raise FormFault('object', f'{name} has no {"<name>" if text is None else "<bndbox>"}')
        difficult = item.find('difficult') is not None and bool(_number(item, 'difficult', name))
        objects.append((text, [_number(box, corner, name) for corner in CORNERS], difficult))
    if size is None:
        return Labels(None, root.findtext('folder'), objects)
    numbers = _number(size, 'width', '<size>'), _number(size, 'height', '<size>')
    return Labels(numbers, root.findtext('folder'), objects)


def _names(classes: list[str], counts: Counter[str], sample: Sample, training: bool) -> Iterator[tuple[bool, str]]:
    """Differences between names of objects and classes: each an error or not, and its text."""
    unknown = [name for name in counts if name not in classes]
    seen = sample.share('XML files')
    if counts and len(unknown) == len(counts):
        text = f'none of the names of objects is a class ({seen}): they are {listed(unknown)}, the classes {listed(classes)}'
        yield training, text
        return
    for name in classes if sample.complete else ():
        if name in counts:
            continue
        alike = nearest(name, unknown)
        same = alike is not None and alike.strip().casefold() == name.strip().casefold()
        hint = f': {"did you mean" if same else "is it"} {alike!r} ({counts[alike]} objects)?' if alike else ''
        yield same, f'no object has the class {name!r}{hint}'
    if unknown:
        shown = ', '.join(f'{name!r} ({counts[name]} objects)' for name in unknown[:8])
        yield False, f'no class learns {len(unknown)} names of objects ({seen}): {shown}{", …" if len(unknown) > 8 else ""}'


def _missing(report: Report, source: Source, place: str, what: str, paths: Sequence[str]) -> None:
    """XML files or pictures that do not exist."""
    if text := missing_files(paths, what):
        first = min(path for path in paths if not osp.isfile(path))
        if ' ' in osp.basename(first) or '.jpg.' in first:
            text += f'. A line of {osp.basename(source.dataset.ann_file)} is a name without suffix and label'
        elif what == 'pictures':
            text += f'. {source.name} reads .jpg only'
        report.stop(place, text)


def _left(report: Report, place: str, filters: dict, total: int, empty: int, small: int) -> None:
    """An error if the filter of a data set leaves none of ``total`` pictures."""
    if total and empty + small == total:
        reasons = [f'{empty} have no object of a class'] if empty else []
        reasons += [f'{small} are smaller than min_size'] if small else []
        report.stop(place, f'0 of {total} pictures are left after filter_cfg={dict(filters)}: {" and ".join(reasons)}')


def check_voc(report: Report, source: Source, clock: Clock, by_folder: bool = False) -> None:
    """Look at a data set of mmdet's ``XMLDataset``.

    Args:
        by_folder: Pictures lie in the folders that their XML names, as in WIDER FACE; else in one.
    """
    dataset, place, classes = source.dataset, f'{source.place}: {source.dataset.ann_file}', source.classes
    if classes is None:
        report.stop(source.place, f'{source.name} needs the names of the classes: set metainfo=dict(classes=(…))')
        return
    with open(dataset.ann_file, encoding='utf-8') as file:
        ids = [line.rstrip('\n\r') for line in file]
    if not ids:
        report.stop(place, 'the list is empty: expected the names of pictures, without suffix, one a line')
        return
    if '' in ids:
        report.stop(place, f'line {ids.index("") + 1} is empty: expected the name of a picture')
        return
    root = dataset.data_prefix.get('img', '') if by_folder else dataset.sub_data_root
    folder = osp.join(root, 'Annotations' if by_folder else dataset.ann_subdir)
    paths = [(osp.join(folder, f'{name}.xml'), f'{name}.jpg') for name in clock.sample(ids, FILES)]
    _missing(report, source, place, 'XML files', [xml for xml, _ in paths])
    faults, doubts, counts, expected = Tally(), Tally(), Counter[str](), []
    boxes = beyond = shares = difficult = empty = small = 0
    filters = {} if dataset.test_mode else dataset.filter_cfg or {}
    if dataset.test_mode and dataset.bbox_min_size is not None:
        report.stop(source.place, f'{source.name} takes filter_cfg.bbox_min_size in training only: leave it out here')
    if unread := filter_fault(dataset):
        report.doubt(source.place, unread)
    there = [pair for pair in paths if osp.isfile(pair[0])]
    sample = clock.sample(there, FILES)
    for xml, name in sample:
        try:
            size, own, objects = _read(xml)
        except FormFault as fault:
            faults.add(fault.args[0], f'{xml}: {fault.args[1]}')
            continue
        if by_folder and (size is None or not own):
            key = 'size' if size is None else 'folder'
            faults.add(key, f'{xml}: it has no <{key}>, which {source.name} reads')
            continue
        picture = osp.join(root, str(own) if by_folder else dataset.img_subdir, name)
        expected.append((picture, size if size and min(size) > 0 else None))
        counts.update(name for name, _, _ in objects)
        learned = [item for item in objects if item[0] in classes]
        if filters.get('filter_empty_gt') and not learned:
            empty += 1
        else:
            small += size is not None and min(size) < filters.get('min_size', 0)
        for name, (left, top, right, bottom), hard in learned:
            boxes, difficult = boxes + 1, difficult + hard
            shares += max(left, top, right, bottom) <= 1
            beyond += size is not None and min(size) > 0 and (right > size[0] + 2 or bottom > size[1] + 2)
            if (right <= left or bottom <= top) and max(right, bottom) > 1 and not hard:
                text = f'{xml}: a box of {name!r} has no area, [{left}, {top}, {right}, {bottom}]'
                (faults if source.training else doubts).add('box', f'{text}: expected xmin < xmax and ymin < ymax')
    _missing(report, source, place, 'pictures', [picture for picture, _ in expected])
    report.tally(source.place, faults, 'files' if 'box' not in faults.counts else 'cases')
    report.tally(source.place, doubts, 'cases', stops=False)
    readable = set(faults.counts) <= {'box'} and len(there) == len(paths)
    for stops, text in _names(classes, counts, sample, source.training) if readable else ():
        report.add(place, stops, text)
    if shares > 0.5 * boxes:
        report.stop(place, f'{shares} of {boxes} boxes have no corner above 1 px: expected pixels, not shares of the picture')
    elif beyond > 0.2 * boxes:
        report.doubt(
            place, f'{beyond} of {boxes} boxes reach beyond the size in their XML: are they of a picture of another size?'
        )
    _left(report, place, filters, sample.seen, empty, small)
    seen = check_pictures(report, source, [pair for pair in expected if osp.isfile(pair[0])], 'its XML', clock)
    text = f'{len(classes)} classes, {len(ids)} pictures, {boxes} of {sum(counts.values())} objects'
    report.row(
        source.place,
        source.name,
        text + (f' ({difficult} difficult)' if difficult else ''),
        f'{sample.share("XML files")}, {seen}',
    )
