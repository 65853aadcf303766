"""Label images that lie beside the objects of a COCO file, for a semantic head of mmdet's detectors."""

import os.path as osp

import numpy as np

from .findings import Clock, Report, Tally
from .labels import IGNORED, learned_values, readable_labels, reads_palette
from .pictures import missing_files
from .sources import Source


def check_stuff(
    report: Report, source: Source, maps: list[tuple[str, tuple[int, int]]], number: int | None, clock: Clock
) -> str:
    """Look at label images that lie beside objects, for a semantic head (HTC, SCNet).

    Args:
        maps: Path of each label image, and (width, height) of its picture.
        number: Classes of the semantic head, if the model has one.

    Returns:
        How much was looked at, in words.
    """
    loader = source.transform('LoadAnnotations') or {}
    if not source.dataset.data_prefix.get('seg'):
        report.stop(
            source.place,
            f'LoadAnnotations has with_seg=True, but data_prefix={dict(source.dataset.data_prefix)} names no label images: add '
            "seg='FOLDER', or take with_seg out",
        )
        return 'no label images'
    if text := missing_files([path for path, _ in maps], 'label images'):
        suffix = source.dataset.seg_map_suffix
        report.stop(source.place, f'{text}. They have the names of the pictures, with seg_map_suffix={suffix!r}')
    sample, faults = clock.sample([pair for pair in maps if osp.isfile(pair[0])]), Tally()
    ignored = {IGNORED, loader.get('ignore_index', IGNORED)}
    table, palette = learned_values(source), reads_palette(loader, 'mmdet')
    for path, size, values, own in readable_labels(sample, palette, faults):
        if own != tuple(size):
            text = f'{path} has {own[0]} x {own[1]} px (width x height), its picture {size[0]} x {size[1]}'
            faults.add('size', f'{text}: both need the same size')
        found = [int(value) for value in np.flatnonzero(values)]
        wrong = [v for v in found if number is not None and table[v] >= number and int(table[v]) not in ignored]
        if wrong and number is not None:
            text = f'{path} has the value {wrong[0]}, but the semantic head has {number} classes, 0 to {number - 1}, and 255'
            faults.add('value', text)
    report.tally(source.place, faults, 'files')
    return sample.share('label images')
