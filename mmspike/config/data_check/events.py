"""Recordings of event cameras: class folders, and times, polarities and places of their events."""

import os.path as osp
from collections import Counter
from pathlib import Path

import numpy as np

from mmspike.datasets.class_folders import class_folders
from mmspike.datasets.events.readers import READ, read_events
from mmspike.datasets.events.recording import RecordingError

from .findings import Clock, Report, Tally
from .folders import check_label_numbers, folder_findings, level_fault
from .pictures import suffixes
from .sources import Source, hushed

RECORDINGS = 24  # that are read of each data set
FAST, SLOW = 2000.0, 0.05  # events a second and pixel: above the first no sensor works, below the second hardly any
LONG = 60.0  # s


def unit_doubt(events: np.ndarray, pixels: int) -> str | None:
    """A doubt that the times of a recording have another unit than us, by the rate of its events; None without."""
    if len(events) < 100:
        return None
    seconds = max(float(events['t'][-1] - events['t'][0]), 1.0) * 1e-6
    rate = len(events) / seconds / pixels
    shown = f'{len(events)} events in {seconds:.3g} s ({rate:.3g} a second and pixel), read as us'
    if rate > FAST:
        return f'{shown}: more than a sensor gives. Are the times in ms or s? Multiply them by 1e3 or 1e6'
    if rate < SLOW and seconds > LONG:
        return f'{shown}: less than a sensor gives. Are the times in ns? Divide them by 1e3'
    return None


def steps_back(path: str) -> int:
    """At how many events of an ``.npz`` the time falls."""
    with np.load(path) as arrays:
        return int((np.diff(arrays['t'].astype(np.int64)) < 0).sum())


def check_events(report: Report, source: Source, clock: Clock) -> list[str] | None:
    """Look at a data set of recordings; its classes in the order of their labels."""
    dataset, classes = source.dataset, source.classes
    stopped = False
    if not dataset.ann_file:
        root = dataset.img_prefix or '.'
        folders = class_folders(root)
        if classes is None and (text := level_fault(dataset, folders)):
            report.stop(source.place, text)
            return None
        if classes is not None:
            # folders may also be called by the number of the class
            named = [classes[int(f)] if f.isdigit() and f not in classes and int(f) < len(classes) else f for f in folders]
            for stops, text in folder_findings(named, classes, by_name=True):
                if stops:
                    stopped = True
                    report.stop(source.place, f'{root}: {text}')
        if source.transform('LoadEvents'):
            _left_out(report, source, root, folders)
        classes = classes if classes is not None else folders
    if stopped:
        return classes
    try:
        with hushed():
            samples = dataset.load_data_list()
    except RecordingError as error:
        report.stop(source.place, str(error))
        return classes
    labels = Counter(sample['gt_label'] for sample in samples)
    check_label_numbers(report, source.place, labels, classes, source.outputs)
    missing = sorted(sample['events_path'] for sample in samples if not osp.exists(sample['events_path']))
    if missing:
        report.stop(source.place, f'{len(missing)} of {len(samples)} recordings do not exist, the first is {missing[0]}')
    seen = 'names'
    if source.transform('LoadEvents') and not missing:
        seen = _read_some(report, source, samples, clock)
    report.row(source.place, source.name, f'{len(samples)} recordings, {len(labels)} of {len(classes or labels)} classes', seen)
    return classes


def _left_out(report: Report, source: Source, root: str, folders: list[str]) -> None:
    """Files in class folders that no reader takes."""
    others: list[str] = []
    for folder in folders:
        names = [f.name for f in Path(root, folder).iterdir() if f.is_file() and not f.name.startswith('.')]
        odd = [name for name in names if Path(name).suffix.lower() not in READ]
        if odd and len(odd) == len(names):
            report.stop(
                source.place,
                f'{osp.join(root, folder)} has no recording, only {suffixes(odd)}: read are {" ".join(READ)}. Convert them, '
                'for example to .npz with arrays t (us), x, y, p',
            )
        else:
            others += odd
    if others:
        report.doubt(
            source.place, f'{len(others)} files in {root} are left out ({suffixes(others)}): read are {" ".join(READ)}'
        )


def _read_some(report: Report, source: Source, samples: list[dict], clock: Clock) -> str:
    """Read some recordings, by the same reader as the pipeline, and look at their events."""
    sample = clock.sample(samples, RECORDINGS)
    faults, doubts = Tally(), Tally()
    skips = (source.transform('LoadEvents') or {}).get('on_error') == 'skip'
    frames = source.transform('EventsToFrames') or {}
    on = total = 0
    largest = np.zeros(2, int)
    spans: list[int] = []
    for item in sample:
        path = item['events_path']
        try:
            events = read_events(path, item['sensor_size'], item.get('interval'))
        except RecordingError as error:
            (doubts if skips else faults).add('unreadable', str(error))
            continue
        size = np.array([events['y'].max() + 1, events['x'].max() + 1])
        largest = np.maximum(largest, size)
        on += int(events['p'].sum())
        total += len(events)
        spans.append(int(events['t'][-1] - events['t'][0]))
        if text := unit_doubt(events, int(np.prod(item['sensor_size'] or size))):
            doubts.add('unit', f'{path}: {text}')
        if path.endswith('.npz') and (back := steps_back(path)):
            doubts.add('order', f'{path}: the time falls at {back} of {len(events)} events, which are put in order')
    report.tally(source.place, faults, 'recordings')
    report.tally(source.place, doubts, 'recordings', stops=False)
    if total > 100 and on in (0, total):
        report.doubt(source.place, f'all {total} events looked at are {"ON" if on else "OFF"}: how is the polarity coded?')
    sensor = source.dataset.sensor_size
    if sensor is not None and spans and (largest * 2 < np.array(sensor)).all():
        report.doubt(
            source.place, f'events lie in {largest.tolist()} of {list(sensor)} px (height, width): is sensor_size right?'
        )
    if frames.get('duration') and spans:
        covered, median = frames['duration'] * frames.get('T', 1), int(np.median(spans))
        if not 0.5 <= covered / max(median, 1) <= 20:
            report.doubt(
                source.place,
                f'EventsToFrames takes the first T x duration = {covered} us, the recordings have {median} us (median): are '
                'their times in us, and is duration right?',
            )
    return sample.share('recordings')
