"""The number of broken images that a training left out, in its log."""

from collections.abc import Iterator

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmspike.datasets.loading import SkipsFaults
from mmspike.registry import HOOKS


def _find(item, cls: type) -> Iterator:
    """Every object of class ``cls`` in a dataset: in its pipeline, in wrapped datasets and in wrapped transforms."""
    if isinstance(item, cls):
        yield item
    elif isinstance(item, list | tuple):
        for child in item:
            yield from _find(child, cls)
    for name in ('dataset', 'datasets', 'pipeline', 'transforms'):
        # the object's own attributes: what a wrapper merely passes on is found in what it wraps
        if name in getattr(item, '__dict__', {}):
            yield from _find(vars(item)[name], cls)


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Reports how many images or recordings were left out by loaders with ``on_error='skip'``, over all workers and ranks.

    These are ``mmspike.LoadImageFromFile``, ``LoadEvents`` and ``LoadEventFrames``.

    A warning in the log at the end of every training epoch, and before every validation, if the count has grown.
    """

    def before_train(self, runner: Runner) -> None:
        self._reported = 0

    def after_train_epoch(self, runner: Runner) -> None:
        self._report(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        if hasattr(self, '_reported'):
            self._report(runner)

    def _report(self, runner: Runner) -> None:
        # by identity, because datasets may share a transform
        counters = {id(load.skipped): load.skipped for load in _find(runner.train_dataloader.dataset, SkipsFaults)}
        count = torch.tensor(sum(counter.total() for counter in counters.values()))
        all_reduce(count)
        if int(count) > self._reported:
            self._reported = int(count)
            runner.logger.warning(f'{self._reported} corrupt files skipped since the start (see "Skipped" above)')
