"""Recordings of event cameras with boxes or label maps in time, against a config."""

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmspike.datasets.events.moving import IGNORED
from mmspike.datasets.events.readers import open_events
from mmspike.datasets.events.recording import RecordingError

from .findings import Clock, Report, Tally
from .folders import check_label_numbers
from .sources import Source, hushed

RECORDINGS = 8  # that are opened of each data set
MAPS = 50  # label maps that are opened of each data set


def check_event_windows(report: Report, source: Source, clock: Clock, unlearned: set[int]) -> list[str] | None:
    """Look at a data set of events with boxes or label maps; its classes in the order of their labels.

    All boxes are read. Of recordings and label maps some are opened: of recordings the beginning, since an index is made when
    they are first used.

    Args:
        unlearned: Labels of maps that the heads leave out.
    """
    dataset: Any = source.dataset
    try:
        with hushed():
            samples = dataset.load_data_list()
    except (RecordingError, ImportError) as error:
        report.stop(source.place, str(error))
        return source.classes
    labelled = [sample for sample in samples if sample['labelled']]
    maps = 'seg_map_path' in samples[0]
    if maps:
        counts, seen = _check_maps(report, source, clock, labelled, unlearned)
    else:
        counts = Counter(instance['bbox_label'] for sample in labelled for instance in sample['instances'])
        seen = 'all boxes'
    check_label_numbers(report, source.place, counts, source.classes)
    recordings = sorted({sample['events_path'] for sample in samples})
    opened = clock.sample(recordings, RECORDINGS)
    faults = Tally()
    for path in opened:
        try:
            with open_events(path, dataset.sensor_size) as stream:
                if next(stream.stored(), None) is None:
                    faults.add('empty', f'{path} has no events')
        except (RecordingError, ImportError) as error:
            faults.add('unreadable', str(error))
    for text in faults.texts('recordings'):
        report.stop(source.place, text)
    things = f'{len(labelled)} label maps' if maps else f'{sum(counts.values())} boxes'
    text = f'{len(recordings)} recordings, {len(samples)} {dataset.samples}, {things}'
    report.row(source.place, source.name, text, f'{seen}, {opened.share("recordings")}')
    return source.classes


def _check_maps(
    report: Report, source: Source, clock: Clock, samples: list[dict], unlearned: set[int]
) -> tuple[Counter[int], str]:
    """Pixels of each label in some maps, and how many were opened."""
    opened = clock.sample(samples, MAPS)
    faults = Tally()
    counts: Counter[int] = Counter()
    for sample in opened:
        path = sample['seg_map_path']
        content = np.fromfile(path, np.uint8) if Path(path).is_file() else np.empty(0, np.uint8)
        labels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
        if labels is None or labels.ndim != 2:
            faults.add('broken', f'{path} is no label image of one channel, or a broken one')
        elif labels.shape != sample['image_size']:
            faults.add(
                'size', f'{path} has {labels.shape} px, the data set {sample["image_size"]}: set image_size (height, width)'
            )
        else:
            found, number = np.unique(labels, return_counts=True)
            counts += Counter(dict(zip(found.tolist(), number.tolist(), strict=True)))
    for text in faults.texts('label maps'):
        report.stop(source.place, text)
    for label in (IGNORED, *unlearned):
        counts.pop(label, None)
    if source.dataset.label_map is not None:  # names in the config are a part of the data set's
        renamed: Counter[int] = Counter()
        for label, pixels in counts.items():
            renamed[source.dataset.label_map.get(label, label)] += pixels
        renamed.pop(IGNORED, None)
        counts = renamed
    return counts, opened.share('label maps')
