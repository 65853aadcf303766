"""A resumed training whose epochs have another number of batches than those before its checkpoint."""

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmspike.utils.errors import UserError

KEY = 'batches_an_epoch'


class EpochLengthHook(Hook):
    """Keeps the number of batches of an epoch in the checkpoints, and stops a resumed Runner that has another one.

    So it is with another number of processes or images: the config is the same, and schedules that count iterations, whose
    state mmengine takes from the checkpoint, would end too early or too late. ``tools/train.py`` adds the hook.

    Args:
        refuse: Stop; else another number is taken, as ``--resume-settings`` says it.

    Raises:
        UserError: The number is another one, and a schedule counts iterations.
    """

    priority = 'HIGHEST'

    def __init__(self, refuse: bool = True) -> None:
        self.refuse = refuse

    def before_train(self, runner: Runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        now, epoch, hub = len(runner.train_dataloader), runner.epoch, runner.message_hub
        before = hub.get_info(KEY) if KEY in hub.runtime_info else now
        if KEY not in hub.runtime_info and epoch and all(h.by_epoch for h in runner.hooks if isinstance(h, CheckpointHook)):
            before = runner.iter // epoch  # a checkpoint of other tools
        schedulers = runner.param_schedulers or []
        if isinstance(schedulers, dict):  # of several optimizers
            schedulers = [scheduler for several in schedulers.values() for scheduler in several]
        if self.refuse and before != now and epoch and not all(scheduler.by_epoch for scheduler in schedulers):
            raise UserError(
                f'--resume: an epoch has {now} batches, and had {before} before the checkpoint: another number of processes or '
                'images. Schedules that count iterations would go on as before. Add --resume-settings config to go on as a run '
                'with as many batches an epoch as now, or --resume-settings checkpoint to go on as before'
            )
        hub.update_info(KEY, now)
