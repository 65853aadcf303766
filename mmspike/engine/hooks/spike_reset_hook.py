"""Separation of samples for neurons that keep their membrane."""

from mmengine.hooks import EMAHook, Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch.utils.hooks import RemovableHandle

from mmspike.models.inspection import reset_spikes
from mmspike.registry import HOOKS


@HOOKS.register_module()
class SpikeResetHook(Hook):
    """Separates samples for stateful neurons: resets them before each train, val and test iteration.

    Covers the runner's model through any wrapper and the copies that ``EMAHook`` keeps. Within one iteration the neurons are
    also reset before every view of test-time augmentation and before every window of mmseg's slide mode, so that a view or
    window is predicted as it would be alone. Networks of stateless neurons (the default) have nothing to reset and are left
    alone.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self._reset(runner)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self._reset(runner)

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        self._reset(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        self._separate_views_and_windows(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        self._separate_views_and_windows(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._remove_handles()

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

    def _reset(self, runner: Runner) -> None:
        reset_spikes(runner.model)
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                reset_spikes(hook.ema_model)
