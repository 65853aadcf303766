"""A resumed training with the learning rates, schedules and seed of its config instead of those in the checkpoint."""

import warnings
from copy import deepcopy

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmspike.utils.errors import UserError


class ObeyConfigHook(Hook):
    """Gives a resumed Runner the optimizer settings that a fresh run of its config has at that epoch or iteration.

    mmengine loads them from the checkpoint: lr, weight decay and other settings of each parameter group, the whole state of
    the schedulers, the seed. Here groups and schedulers are put back to what the config built, and the schedulers go through
    the steps before the checkpoint once more; moments and step counts of the optimizer are the checkpoint's. With another
    number of batches an epoch, the steps of a run of the new length count. ``tools/train.py --resume-settings config`` adds it.

    Raises:
        UserError: A schedule depends on validation scores (ReduceOnPlateau), or the config divides the parameters into other
            groups than the checkpoint.
    """

    priority = 'HIGHEST'  # before what reads the seed

    def before_run(self, runner: Runner) -> None:
        self.built = []
        for optimizer, schedulers in _optimizers(runner):
            for scheduler in schedulers:
                if getattr(scheduler, 'need_val_args', False):
                    raise UserError(
                        f'--resume-settings config: {type(scheduler).__name__} depends on the scores of the epochs before, '
                        'which are not known any more. Use --resume-settings checkpoint'
                    )
            groups = [{key: value for key, value in group.items() if key != 'params'} for group in optimizer.param_groups]
            self.built.append((deepcopy(groups), [deepcopy(scheduler.state_dict()) for scheduler in schedulers]))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        state = checkpoint.get('optimizer', {})
        states = [state] if 'param_groups' in state else list(state.values())
        for saved, (optimizer, _) in zip(states, _optimizers(runner), strict=False):
            both = saved['param_groups'], optimizer.optimizer.param_groups
            sizes = [[len(group['params']) for group in groups] for groups in both]
            if sizes[0] != sizes[1]:
                raise UserError(
                    f'--resume: the checkpoint has {sum(sizes[0])} parameters in {len(sizes[0])} groups, the config '
                    f'{sum(sizes[1])} in {len(sizes[1])} (optim_wrapper.paramwise_cfg): the state of the optimizer cannot go '
                    'on. Use --resume-settings checkpoint, or start from its weights with load_from'
                )

    def before_train(self, runner: Runner) -> None:
        if runner.iter == 0:
            return
        pairs = _optimizers(runner)
        for (optimizer, schedulers), (groups, states) in zip(pairs, self.built, strict=True):
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                for key in group.keys() - settings.keys() - {'params'}:
                    del group[key]
                group.update(settings)
            for scheduler, state in zip(schedulers, states, strict=True):
                vars(scheduler).clear()
                vars(scheduler).update(state, optimizer=optimizer)
        _repeat_steps(runner, [scheduler for _, schedulers in pairs for scheduler in schedulers])
        randomness = runner.cfg.get('randomness') or {}
        if randomness.get('seed') is not None:
            runner.set_randomness(**randomness)
        for optimizer, _ in pairs:
            rates = sorted({group['lr'] for group in optimizer.optimizer.param_groups})
            text = ' to '.join(f'{rate:.3e}' for rate in dict.fromkeys((rates[0], rates[-1])))
            runner.logger.info(
                f'Goes on with the settings of the config: lr {text} at epoch {runner.epoch}, iteration {runner.iter}'
            )


def _optimizers(runner: Runner) -> list[tuple[OptimWrapper, list[_ParamScheduler]]]:
    """Each optimizer with its schedulers."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if isinstance(wrapper, OptimWrapper):
        return [(wrapper, schedulers)]
    return [(wrapper[name], schedulers[name] if schedulers else []) for name in wrapper]


def _repeat_steps(runner: Runner, schedulers: list[_ParamScheduler]) -> None:
    """The steps of a run up to here: of schedules by iteration after each of them, of the others after each epoch."""
    length = len(runner.train_dataloader)
    epochs = runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else 0
    iterations = runner.iter if not epochs or runner.iter // length == epochs else epochs * length
    by_iteration = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected call of `scheduler.step')  # no optimizer step belongs to these
        for iteration in range(1, iterations + 1):
            for scheduler in by_iteration:
                scheduler.step()
            if iteration % length == 0 and iteration // length <= epochs:
                for scheduler in by_epoch:
                    scheduler.step()
