"""Class folders, and lists of files with labels, for mmpretrain."""

import os
import os.path as osp
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmspike.datasets.class_folders import class_folders, files_below

from .classes import listed, nearest
from .coco_form import read_json
from .findings import Clock, Report, Tally
from .pictures import check_pictures, nearby, suffixes
from .sources import Source

CLASSIFIED = ('BaseDataset', 'MultiLabelDataset')  # of mmpretrain: every item has a label
SPLITS = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}


def folder_findings(folders: Sequence[str], classes: Sequence[str], by_name: bool) -> list[tuple[bool, str]]:
    """Differences between sorted class folders and the classes of a config: each an error or not, and its text.

    Args:
        by_name: Folders get the label of the class of their name; else the labels are their places in the sorted list.
    """
    both = set(folders) & set(classes)
    if by_name:
        unknown = [name for name in folders if name not in classes]
        missing = [name for name in classes if name not in folders]
        found = []
        for name in unknown:
            near = nearest(name, [n for n in missing])
            found.append(
                (
                    True,
                    f'the folder {name!r} is no class of the config ({listed(classes)})'
                    + (f': is {near!r} meant?' if near else ''),
                )
            )
        if missing and not unknown:
            found.append((False, f'there is no folder for {listed(missing)}'))
        return found
    if len(folders) != len(classes):
        extra = [name for name in folders if name not in classes]
        missing = [name for name in classes if name not in folders]
        text = f'there are {len(folders)} folders ({listed(folders)}) for {len(classes)} classes ({listed(classes)})'
        if both:
            text += f'; without a class: {listed(extra) or "none"}; without a folder: {listed(missing) or "none"}'
        return [(True, f'{text}. mmpretrain numbers the sorted folders, and wants one for each class')]
    if list(folders) == list(classes) or not both:
        return []  # names of classes may be others than those of folders, as ImageNet's are
    if set(folders) == set(classes):
        return [
            (
                True,
                f'the classes of the config are {listed(classes)}, but labels are the places of the sorted folders, so that '
                f'{folders[0]!r} would be called {classes[0]!r}: write classes=({", ".join(map(repr, folders))},)',
            )
        ]
    other = [(folder, name) for folder, name in zip(folders, classes, strict=True) if folder != name]
    return [(False, f'the folder {folder!r} is called {name!r} in the classes of the config') for folder, name in other[:5]]


def level_fault(dataset: Any, folders: Sequence[str]) -> str | None:
    """The fault of folders that look like splits, or like a single one that holds the class folders; None without."""
    root = dataset.img_prefix or '.'
    if not folders:
        return None
    if set(map(str.lower, folders)) <= SPLITS:
        text = f'its folders are {listed(folders)}, which are no classes'
    elif len(folders) == 1 and len(inner := class_folders(osp.join(root, folders[0]))) > 1:
        text = f'its only folder is {folders[0]!r}, which would be the only class and holds the folders {listed(inner)}'
    else:
        return None
    return f'{root}: {text}: is data_prefix={osp.relpath(osp.join(root, folders[0]), dataset.data_root or ".")!r} meant?'


def check_folders(report: Report, source: Source, clock: Clock, by_name: bool) -> list[str] | None:
    """Look at a data set of class folders, or of a list of files; its classes in the order of their labels.

    Args:
        by_name: See :func:`folder_findings`.
    """
    dataset = source.dataset
    if getattr(dataset, 'ann_file', ''):
        return _check_list(report, source, clock)
    root = dataset.img_prefix or '.'
    classes = source.classes
    extensions = tuple(dataset.extensions)
    if not getattr(dataset, 'with_label', True):
        files = [name for name in files_below(root) if name.lower().endswith(extensions)]
        report.row(source.place, source.name, f'{len(files)} images without labels', 'names')
        return None
    folders = class_folders(root)
    hidden = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name.startswith('.'))
    if hidden and not by_name:
        report.stop(
            source.place,
            f'the hidden folder {osp.join(root, hidden[0])} would count as a class, and shift the labels of the others: remove '
            f"it, or set type='mmspike.ClassFolders', which leaves out names that begin with a dot",
        )
    if not folders:
        report.stop(source.place, f'0 images are left: there is no class folder in {root}: {nearby(osp.join(root, "x", "y"))}')
        return classes
    if classes is None and (text := level_fault(dataset, folders)):
        report.stop(source.place, text)
        return None
    if len(folders) == 1 and source.training:
        report.doubt(source.place, f'{root} has the single class folder {folders[0]!r}: there is nothing to tell apart')
    public = vars(source.cls).get('METAINFO') or {}
    if not by_name and list(public.get('classes') or ()) == classes and len(folders) != len(classes):
        report.stop(
            source.place,
            f'{root} has {len(folders)} class folders, {source.name} the {len(classes)} of the public data set: for classes of '
            "your own set type='mmspike.ClassFolders'",
        )
        return folders
    for stops, text in folder_findings(folders, classes, by_name) if classes is not None else ():
        report.add(source.place, stops, f'{root}: {text}')
    files, left_out, empty = [], [], []
    for folder in folders:
        names = [osp.join(root, folder, name) for name in files_below(osp.join(root, folder))]
        good = [name for name in names if name.lower().endswith(extensions)]
        files += good
        left_out += [name for name in names if not name.lower().endswith(extensions)]
        if not good:
            empty.append(f'{folder} ({suffixes(names) if names else "no file"})')
    read = f'read are {" ".join(sorted(extensions))}'
    if not files:
        report.stop(source.place, f'0 images are left in {root}: {suffixes(left_out) or "its folders are empty"}; {read}')
    elif empty:
        report.stop(
            source.place,
            f'{len(empty)} of {len(folders)} class folders in {root} have no image that is read: {", ".join(empty[:5])}; '
            f'{read}. Convert the files, set extensions=(…) in the data set, or take the class out',
        )
    elif left_out:
        report.doubt(source.place, f'{len(left_out)} files in {root} are left out ({suffixes(left_out)}); {read}')
    seen = check_pictures(report, source, [(file, None) for file in files], root, clock)
    report.row(source.place, source.name, f'{len(files)} images, {len(folders)} folders, {len(left_out)} files left out', seen)
    return classes if classes is not None else folders


def read_list(path: str) -> list[str]:
    """The lines of a list that are not empty."""
    return [line.strip() for line in Path(path).read_text(encoding='utf-8').splitlines() if line.strip()]


def _check_list(report: Report, source: Source, clock: Clock) -> list[str] | None:
    """A text file of lines ``path label``."""
    dataset, path, classes = source.dataset, source.dataset.ann_file, source.classes
    place = f'{source.place}: {path}'
    try:
        lines = read_list(path)
    except (OSError, UnicodeDecodeError) as error:
        report.stop(place, f'the list cannot be read: {error}')
        return classes
    with_label = getattr(dataset, 'with_label', True)
    if not lines:
        report.stop(place, 'the list is empty: expected lines "path label"' if with_label else 'the list is empty')
        return classes
    names, labels = [], Counter[int]()
    for number, line in enumerate(lines, 1):
        name, _, label = line.rpartition(' ') if with_label else (line, '', '')
        if with_label and (not name or not label.removeprefix('-').isdigit()):
            report.stop(place, f'line {number} is {line!r}: expected a path, a space and the number of the class')
            return classes
        names.append(name)
        if with_label:
            labels[int(label)] += 1
    check_label_numbers(report, place, labels, classes, source.outputs)
    pictures: list[tuple[str, Any]] = [(osp.join(dataset.img_prefix or '', name), None) for name in names]
    seen = check_pictures(report, source, pictures, path, clock)
    report.row(source.place, source.name, f'{len(lines)} images, {len(labels)} labels', seen)
    return classes


def check_label_numbers(
    report: Report, place: str, labels: Counter, classes: Sequence[str] | None, outputs: int | None = None
) -> None:
    """Compare numbers of labels with the classes; where these have no names, with the ``outputs`` of the head."""
    if not labels:
        return
    number = len(classes) if classes is not None else outputs
    wrong = [label for label in labels if label < 0 or (number is not None and label >= number)]
    if wrong:
        shifted = number is not None and min(labels) == 1 and max(labels) == number
        report.stop(
            place,
            f'the label {max(wrong, key=abs)} does not fit ({sum(labels[w] for w in wrong)} of {sum(labels.values())} are '
            f'out of range): {number if number is not None else "the"} classes are numbered from 0'
            + (f' to {number - 1}' if number is not None else '')
            + (': the file counts from 1, subtract 1' if shifted else ''),
        )
    elif classes is not None and (missing := [name for i, name in enumerate(classes) if i not in labels]):
        report.doubt(place, f'no sample has the label of {listed(missing)}')


def check_data_list(report: Report, source: Source, clock: Clock) -> list[str] | None:
    """A JSON in OpenMMLab's own format: "metainfo" and "data_list"."""
    path = source.dataset.ann_file
    place = f'{source.place}: {path}'
    if not path.endswith('.json'):
        report.row(source.place, source.name, 'not checked', f'{Path(path).suffix or "no"} file')
        return source.classes
    content: Any
    content, fault = read_json(path)
    if fault := fault or data_list_fault(content):
        report.stop(place, fault)
        return source.classes
    classes = source.classes
    if classes is None and isinstance(given := content['metainfo'].get('classes'), list):
        classes = given
    elif (
        isinstance(given := content['metainfo'].get('classes'), list) and given != classes and set(given) == set(classes or ())
    ):
        report.stop(
            place,
            f'its metainfo has the classes in the order {listed(given, 100)}, the config {listed(classes or [], 100)}: labels '
            'are places in that order. Write them alike',
        )
    labels: Counter[int] = Counter()
    faults, doubts = Tally(), Tally()
    for number, item in enumerate(content['data_list']):
        name = f'item {number} ({str(item.get("img_path") or item)[:60]})'
        instances = [instance for instance in item.get('instances') or () if isinstance(instance, dict)]
        given = item.get('gt_label', [instance.get('bbox_label') for instance in instances])
        if 'gt_label' not in item and source.name in CLASSIFIED and source.outputs and 'gt_score' not in item:
            (faults if source.training else doubts).add('no label', f'{name} has no "gt_label": it has {listed(list(item))}')
        for label in given if isinstance(given, list) else [given]:
            if isinstance(label, int) and not isinstance(label, bool):
                labels[label] += 1
            else:
                faults.add('label', f'{name} has the label {label!r}: expected the number of its class, from 0')
    report.tally(place, faults, 'labels')
    report.tally(place, doubts, 'labels', stops=False)
    check_label_numbers(report, place, labels, classes, source.outputs)
    prefix = source.dataset.data_prefix.get('img_path') or source.dataset.data_prefix.get('img') or ''
    keyed = [item.get('img_path') for item in content['data_list']]
    pictures: list[tuple[str, Any]] = [(osp.join(prefix, str(name)), None) for name in keyed if name]
    seen = check_pictures(report, source, pictures, path, clock)
    report.row(source.place, source.name, f'{len(content["data_list"])} samples, {sum(labels.values())} labels', seen)
    return classes


def data_list_fault(content: Any) -> str | None:
    """The fault in the form of a JSON in OpenMMLab's own format, or None."""
    if not isinstance(content, dict):
        return f'the top level is a {type(content).__name__}, expected an object with "metainfo" and "data_list"'
    if not isinstance(content.get('data_list'), list):
        return '"data_list" is missing or no list, expected OpenMMLab format (metainfo, data_list)'
    if not isinstance(content.get('metainfo'), dict):
        return '"metainfo" is missing or no object, expected OpenMMLab format (metainfo, data_list)'
    if not content['data_list']:
        return '"data_list" is empty'
    if odd := [item for item in content['data_list'] if not isinstance(item, dict)]:
        return f'"data_list" holds {str(odd[0])[:40]!r}, a {type(odd[0]).__name__}: expected objects'
    return None
