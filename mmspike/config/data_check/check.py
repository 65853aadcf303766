"""The data check: every data set of a config, and every head of its model against them."""

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmspike.config.config_faults import unknown_type
from mmspike.config.data_paths import EVALUATORS, LOADERS, check_data_exists
from mmspike.utils.errors import UserError

from .classes import (
    class_counts,
    decode_head_findings,
    head_findings,
    listed,
    spelling_fault,
    stuff_count,
    thing_counts,
    topk_fault,
    type_fault,
)
from .coco import CocoCheck, check_scored_file
from .downloads import check_download
from .findings import Clock, Report
from .labels import check_labels, ignored_values
from .lvis import LvisCheck
from .panoptic import check_panoptic
from .sources import Source, find_sources
from .voc import check_voc

SECONDS = 30.0


def _metrics(cfg: Config, name: str) -> list[dict]:
    evaluator = cfg.get(name) or []
    return [m for m in (evaluator if isinstance(evaluator, list | tuple) else [evaluator]) if isinstance(m, dict)]


def _scored(cfg: Config, evaluators: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """(Evaluator, annotation file) with which mmdet's CocoMetric scores -> what it scores."""
    files: dict[tuple[str, str], list[str]] = {}
    for name in evaluators:
        for metric in _metrics(cfg, name):
            name_of_type = str(metric.get('type')).rsplit('.', 1)[-1]
            if name_of_type == 'CocoMetric' and metric.get('ann_file') and not metric.get('format_only'):
                what = metric.get('metric', 'bbox')
                files.setdefault((name, metric['ann_file']), []).extend([what] if isinstance(what, str) else what)
    return files


def _same_method(cls: Any, base: type, *names: str) -> bool:
    return all(getattr(cls, name) is getattr(base, name) for name in names)


def _check_coco(report: Report, source: Source, scored: dict, model: dict, clock: Clock, mmdet: Any) -> None:
    """A data set of a JSON in COCO's form, or in one that comes of it."""
    dataset, cls, base = source.dataset, source.cls, mmdet.CocoDataset
    plain = _same_method(cls, base, 'parse_data_info')
    lvis = mmdet.LVISV05Dataset, mmdet.LVISV1Dataset
    if isinstance(dataset, mmdet.CocoPanopticDataset) and _same_method(cls, mmdet.CocoPanopticDataset, 'parse_data_info'):
        check_panoptic(report, source, list(thing_counts(model)), clock)
    elif any(_same_method(cls, one, 'load_data_list') for one in lvis):
        with_url = isinstance(dataset, mmdet.LVISV1Dataset)
        LvisCheck(source, plain, with_url, scored=not source.training).run(report, clock)
    elif cls.COCOAPI is base.COCOAPI and any(
        _same_method(cls, one, 'load_data_list') for one in (base, mmdet.Objects365V1Dataset, mmdet.Objects365V2Dataset)
    ):
        own = [what for (_, file), what in scored.items() if os.path.abspath(file) == os.path.abspath(dataset.ann_file)]
        CocoCheck(source, plain, [name for what in own for name in what], stuff_count(model)).run(report, clock)
    else:
        report.row(source.place, source.name, 'not checked', 'annotations are read in a way of its own')


def _check_source(report: Report, source: Source, scored: dict, model: dict, clock: Clock) -> list[str] | None:
    """Check one data set by the class of its host; its names of classes in the order of their labels."""
    dataset, cls = source.dataset, source.cls
    if isinstance(old := vars(cls).get('CLASSES'), list | tuple) and source.classes != list(old):
        report.stop(
            source.place, f'{source.name} has CLASSES, which mmdet 3 does not read: write METAINFO = dict(classes={tuple(old)})'
        )
    # a data set of a host or of events exists only where its module is imported, which takes seconds
    mmdet, mmseg, mmpretrain = (sys.modules.get(f'{host}.datasets') for host in ('mmdet', 'mmseg', 'mmpretrain'))
    events = sys.modules.get('mmspike.datasets.events.labelled')
    if events and isinstance(dataset, events.LabelledRecordings):
        from .event_windows import check_event_windows

        return check_event_windows(report, source, clock, ignored_values(model))
    if mmdet and isinstance(dataset, mmdet.CocoDataset):
        _check_coco(report, source, scored, model, clock, mmdet)
        return source.classes
    if mmdet and isinstance(dataset, mmdet.XMLDataset):
        wider = _same_method(cls, mmdet.WIDERFaceDataset, 'load_data_list', 'parse_data_info', '_parse_instance_info')
        if wider or _same_method(cls, mmdet.XMLDataset, 'load_data_list', 'parse_data_info', '_parse_instance_info'):
            check_voc(report, source, clock, by_folder=wider)
        else:
            report.row(source.place, source.name, 'not checked', 'annotations are read in a way of its own')
        return source.classes
    for host, base in ((mmseg, 'BaseSegDataset'), (mmdet, 'BaseSegDataset')):
        if host and isinstance(dataset, getattr(host, base)):
            check_labels(report, source, clock, host.__name__.partition('.')[0], ignored_values(model))
            return source.classes
    if mmpretrain and isinstance(dataset, mmpretrain.BaseDataset):
        from mmspike.datasets.class_folders import ClassFolders
        from mmspike.datasets.events.datasets import EventFolders

        from .events import check_events
        from .folders import check_folders

        if isinstance(dataset, EventFolders):
            return check_events(report, source, clock)
        if isinstance(dataset, mmpretrain.CIFAR10 | mmpretrain.MNIST):
            check_download(report, source, clock)
            return source.classes
        custom = mmpretrain.CustomDataset
        if isinstance(dataset, custom) and _same_method(cls, custom, 'load_data_list'):
            return check_folders(report, source, clock, isinstance(dataset, ClassFolders))
    if _same_method(cls, BaseDataset, 'load_data_list') and source.dataset.ann_file:
        from .folders import check_data_list

        return check_data_list(report, source, clock)
    report.row(source.place, source.name, 'not checked', 'files of this type')
    return source.classes


def _compare_classes(report: Report, known: list[tuple[Source, list[str]]], host: str | None) -> None:
    """The classes of validation and test against those of training."""
    training = [(source, names) for source, names in known if source.training]
    if not training:
        return
    first, names = training[0]
    for source, _ in known:
        options = [bool(getattr(s.dataset, 'reduce_zero_label', False)) for s in (first, source)]
        if options[0] != options[1]:
            report.doubt(source.place, f'its reduce_zero_label is {options[1]}, that of {first.place} {options[0]}')
    for source, others in known:
        if source is first or others == names:
            continue
        missing = [name for name in names if name not in others]
        more = [name for name in others if name not in names]
        different = f'missing: {listed(missing) or "none"}; more: {listed(more) or "none"}'
        if not missing and not more:
            report.stop(
                source.place,
                f'its classes are in the order {listed(others, 100)}, those of {first.place} in the order '
                f'{listed(names, 100)}: labels are places in that order. Write them alike',
            )
        elif not source.named and not getattr(source.dataset, 'ann_file', ''):
            option = "type='mmspike.ClassFolders' and " if source.name in ('CustomDataset', 'ImageNet') else ''
            report.stop(
                source.place,
                f'its class folders are {listed(others)}, those of {first.place} {listed(names)} ({different}): labels are '
                f'places in the sorted list, and do not fit. Add the folder, or set {option}classes=(…) in every data set',
            )
        elif len(others) != len(names) and host in ('mmdet', 'mmseg'):
            report.stop(
                source.place,
                f'it has {len(others)} classes, {first.place} {len(names)} ({different}): predictions are numbers in the list '
                'of training, and are scored by their place. Write the same classes in every data set',
            )
        else:
            report.doubt(source.place, f'its classes differ from those of {first.place}: {different}')


def _check_scored(report: Report, scored: dict[tuple[str, str], list[str]], sources: list[Source]) -> None:
    """Annotation files of evaluators that belong to no data set of their own."""
    for (evaluator, path), what in scored.items():
        loader = evaluator.replace('_evaluator', '_dataloader')
        own = [s for s in sources if s.place.split('.')[0] == loader and getattr(s.dataset, 'ann_file', '').endswith('.json')]
        if len(own) == 1 and os.path.abspath(own[0].dataset.ann_file) != os.path.abspath(path):
            check_scored_file(report, evaluator, path, what, own[0])


def check_data(
    cfg: Config,
    loaders: Sequence[str] = LOADERS,
    evaluators: Sequence[str] = EVALUATORS,
    seconds: float = SECONDS,
    every: bool = False,
) -> Report:
    """Compare the data of a config with the config: classes, heads, files, annotations, labels, pictures, recordings.

    Annotation files are read whole. Of pictures, labels and recordings an evenly spaced sample is opened; the report says how
    many. Nothing is trained and no model is built.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        loaders: The data loaders whose data sets are looked at.
        evaluators: The evaluators that belong to them.
        seconds: Time for opening pictures, labels and recordings; what is left then is not looked at.
        every: Open every file instead of a sample, as far as the time goes.

    Returns:
        Findings, and a row of counts for each data set; ``str()`` of it is a table.

    Raises:
        UserError: A folder or file that the config names does not exist.

    Example:
        >>> report = check_data(Config.fromfile('my/mask_rcnn_mine.py'))
        >>> print(report, len(report.errors))
    """
    start = time.monotonic()
    check_data_exists(cfg, tuple(loaders), tuple(evaluators))
    report, clock = Report(), Clock(seconds, every)
    scored = _scored(cfg, evaluators)
    known: list[tuple[Source, list[str]]] = []
    heads = list(class_counts(cfg.get('model') or {}))
    classes_seen: dict[int, Source] = {}
    for source in find_sources(cfg, loaders):
        source.outputs = min((count for _, count in heads if count > 0), default=None)
        if fault := spelling_fault(source.cfg):
            report.stop(source.place, fault)
            continue
        if source.dataset is None:
            if source.cls is None:
                given = str(source.cfg.get('type'))
                report.stop(source.place, unknown_type(cfg, given, 'dataset') or f'its type {given!r} is not registered')
            elif source.broken:
                report.stop(source.place, type_fault(source.cls, source.cfg, source.problem))
            report.row(source.place, source.name, 'not checked', source.problem[:100])
            continue
        before = len(report.errors)
        try:
            classes = _check_source(report, source, scored, cfg.get('model') or {}, clock)
        except Exception as error:  # data of a form that nobody thought of: the run may read them, so it is not stopped
            report.row(source.place, source.name, 'not checked', f'the check failed, {type(error).__name__}: {error}'[:200])
            classes = source.classes
        if classes is not None:
            known.append((source, classes))
            trained = [names for other, names in known[:-1] if other.training and not source.training]
            # not those of folders that training has, too, and not where other classes are the fault, which is said elsewhere
            elsewhere = bool(trained) and (not source.named or len(trained[0]) != len(classes))
            public = source.named and 'classes' not in (source.cfg.get('metainfo') or {}) and len(report.errors) > before
            if classes_seen.get(len(classes), source) is source and not elsewhere and not public:
                classes_seen[len(classes)] = source
                for stops, place, text in head_findings(heads, classes, source.place, cfg.get('default_scope')):
                    report.add(place, stops, text)
    for place, text in decode_head_findings(cfg.get('model') or {}):
        report.stop(place, text)
    for name in evaluators:
        if fault := topk_fault(_metrics(cfg, name), heads):
            report.stop(name, fault)
    _compare_classes(report, known, cfg.get('default_scope'))
    _check_scored(report, scored, [source for source, _ in known])
    report.seconds = time.monotonic() - start
    return report


def stop_at_errors(cfg: Config, loaders: Sequence[str], evaluators: Sequence[str]) -> None:
    """Print the check's table, and stop if it has errors: the commands do so before anything is built.

    Of several processes the first one checks.

    Raises:
        UserError: The table with all errors.
    """
    ranks = [os.environ[name] for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK', 'LOCAL_RANK') if name in os.environ]
    if ranks and ranks[0] != '0':
        return
    report = check_data(cfg, loaders, evaluators)
    if report.errors:
        raise UserError(f'{report}\nThe data do not fit the config: correct this, or add --no-data-check')
    print(report, flush=True)
