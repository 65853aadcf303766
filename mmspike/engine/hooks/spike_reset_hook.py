"""Separation of samples for neurons that keep their membrane."""

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch.utils.hooks import RemovableHandle

from mmspike.models.inspection import reset_spikes, stateful_modules
from mmspike.registry import HOOKS
from mmspike.utils.errors import UserError


@HOOKS.register_module()
class SpikeResetHook(Hook):
    """Separates samples for stateful neurons: resets them before each train, val and test iteration.

    Covers the runner's model through any wrapper and the copies that ``EMAHook`` keeps. Within one iteration the neurons are
    also reset before every view of test-time augmentation and before every window of mmseg's slide mode, so that a view or
    window is predicted as it would be alone. Networks of stateless neurons (the default) have nothing to reset and are left
    alone.

    Samples that say whether they go on from the sample at the same place of the batch before (``continues``: sequences of
    events) are reset where they do not. Membranes of training wait while there is a validation.

    Args:
        sequences: False resets before every sample of sequences, too: to compare with.

    Raises:
        UserError: A sample is to go on from another one than that at its place before: the loader has no
            :class:`mmspike.StreamSampler`.
    """

    def __init__(self, sequences: bool = True) -> None:
        self.sequences = sequences
        self._handles: list[RemovableHandle] = []
        self._last: list[tuple] = []  # recording and end of the window at each place of the last batch
        self._waiting: tuple[list[tuple], list] | None = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self._separate(runner, data_batch)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self._separate(runner, data_batch)

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self._separate(runner, data_batch)

    def before_val_epoch(self, runner: Runner) -> None:
        kept = [(module, module.v) for module in stateful_modules(runner.model) if hasattr(module, 'v')]
        self._waiting = (self._last, kept)
        self._separate_views_and_windows(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        self._separate_views_and_windows(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._remove_handles()
        if self._waiting is not None:
            self._last, kept = self._waiting
            for module, membrane in kept:
                module.v = membrane
            self._waiting = None

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._remove_handles()

    def _separate_views_and_windows(self, runner: Runner) -> None:
        self._remove_handles()  # of an epoch that an exception has ended
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # BaseTTAModel calls test_step of what it wraps once a view
        if isinstance(model, BaseTTAModel):
            model = model.module
            self._handles.append(model.register_forward_pre_hook(lambda module, args: reset_spikes(module)))
        # slide mode calls the backbone, and what comes after it, once a window
        if (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide':
            self._handles.append(model.backbone.register_forward_pre_hook(lambda module, args: reset_spikes(model)))

    def _remove_handles(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _separate(self, runner: Runner, data_batch: DATA_BATCH) -> None:
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        metas = [getattr(sample, 'metainfo', {}) for sample in samples] if isinstance(samples, list | tuple) else []
        if not self.sequences or not any('continues' in meta for meta in metas):
            self._reset(runner)
            return
        starts = torch.tensor([not meta['continues'] for meta in metas])
        for place, meta in enumerate(metas):
            before = self._last[place] if place < len(self._last) else None
            if meta['continues'] and before != (meta['recording'], meta['window'][0]):
                raise UserError(
                    f'the window of {meta["recording"]} from {meta["window"][0]} us goes on from the one before it, but its '
                    f"place in the batch had {before or 'nothing'}: give the loader sampler=dict(type='mmspike.StreamSampler', "
                    'batch_size=…), or to test batch_size=1 and one process'
                )
        self._last = [(meta['recording'], meta['window'][1]) for meta in metas]
        self._reset(runner, starts)

    def _reset(self, runner: Runner, places: torch.Tensor | None = None) -> None:
        reset_spikes(runner.model, places)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                reset_spikes(hook.ema_model, places)
