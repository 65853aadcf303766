"""Settings that a resumed training takes from its config, and those of the checkpoint: schedules, learning rates, seed."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from mmengine.config import Config

from mmspike.config.difference import config_difference
from mmspike.config.recorded import Expression, read_recorded
from mmspike.utils.errors import UserError

CHOICES = ('config', 'checkpoint')


def resolve_settings(cfg: Config, path: str, meta: Mapping, choice: str | None) -> None:
    """Compare ``cfg`` with the config in the checkpoint ``path`` from which it goes on; refuse what would be learned otherwise.

    mmengine loads the state of optimizer, schedulers and random numbers over what the config says. Where they differ,
    ``choice`` decides: 'config' leaves ``cfg`` (:class:`mmspike.engine.hooks.ObeyConfigHook` then puts the settings through),
    'checkpoint' puts the values of the checkpoint into ``cfg``. Everything else of the config is obeyed anyway; what of it
    matters for the training is printed.

    Args:
        meta: The ``meta`` of the checkpoint: ``cfg``, ``seed``, ``epoch``, ``iter``.

    Raises:
        UserError: They differ and there is no ``choice``; or the state of the optimizer is of another kind.
    """
    try:
        old = read_recorded(meta['cfg'])
        new = read_recorded(cfg.pretty_text)
    except (KeyError, ValueError, TypeError):
        print(f'{path} does not tell its config: schedules, learning rates and the seed go on as they were saved')
        return
    length = meta['iter'] // meta['epoch'] if meta.get('epoch') else None
    if fixed := _difference(_fixed(old, new, new), _fixed(new, old, new)):
        raise UserError(
            f'--resume {path}: the optimizer is of another kind, its state cannot go on (- checkpoint, + config):\n{fixed}\n'
            f"To start a training from its weights: --cfg-options load_from='{path}', without --resume"
        )
    if obeyed := _difference(_obeyed(old), _obeyed(new)):
        print(f'Changed since {path} (-), and obeyed as the config has it (+):\n{obeyed}')
    kept = _kept(old, length) | _seed(meta.get('seed'), new)
    changed = _difference(kept, _kept(new, length) | _seed(_seed_of(new), new))
    if not changed:
        return
    if choice is None:
        raise UserError(
            f'--resume {path}: schedule, learning rate or seed of the config (+) are not those of the checkpoint (-), whose '
            f'state would count:\n{changed}\n'
            'Add --resume-settings config to go on as a run of this config would from there, or --resume-settings checkpoint '
            'to go on as before'
        )
    if choice == 'config':
        print(f'--resume-settings config: the config (+) counts instead of {path} (-):\n{changed}')
        return
    print(f'--resume-settings checkpoint: {path} (-) counts instead of the config (+):\n{changed}')
    if unreadable := [value for value in _leaves(kept) if isinstance(value, Expression)]:
        raise UserError(f'--resume-settings checkpoint: no plain value but {unreadable[0]}: write it into the config')
    _put(cfg, old, kept)


def _difference(old: dict, new: dict) -> str:
    return config_difference(Config(old), Config(new))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item)
    else:
        yield value


def _part(cfg: Mapping, name: str) -> Mapping:
    """A dict of a config, empty where there is none or where it is not a plain value."""
    part = cfg.get(name)
    return part if isinstance(part, Mapping) else {}


def _wrappers(cfg: Mapping) -> dict[str, Mapping]:
    """The wrapper of the optimizer by its place, or those of several optimizers."""
    wrapper = _part(cfg, 'optim_wrapper')
    if 'optimizer' in wrapper:
        return {'optim_wrapper': wrapper}
    return {
        f'optim_wrapper.{name}': value for name, value in wrapper.items() if isinstance(value, Mapping) and 'optimizer' in value
    }


def _fixed(cfg: Mapping, other: Mapping, new: Mapping) -> dict:
    """Settings that cannot change: the type of optimizer, and a loss scale if ``other`` has one, too, and ``new`` scales."""
    settings: dict = {}
    theirs, after = _wrappers(other), _wrappers(new)
    for place, wrapper in _wrappers(cfg).items():
        settings[f'{place}.optimizer.type'] = wrapper['optimizer'].get('type')
        scales = after.get(place, {}).get('loss_scale') != dict(enabled=False)
        if scales and 'loss_scale' in wrapper and 'loss_scale' in theirs.get(place, {}):
            settings[f'{place}.loss_scale'] = wrapper['loss_scale']
    return settings


def _obeyed(cfg: Mapping) -> dict:
    """Settings that the config decides in any case, as far as they matter for the training."""
    settings = {f'train_cfg.{key}': value for key, value in _part(cfg, 'train_cfg').items()}
    settings['train_dataloader.batch_size'] = _part(cfg, 'train_dataloader').get('batch_size')
    for place, wrapper in _wrappers(cfg).items():
        for key, value in wrapper.items():
            if key not in ('optimizer', 'paramwise_cfg', 'constructor', 'loss_scale'):
                settings[f'{place}.{key}'] = value
    return {key: value for key, value in settings.items() if value is not None}


def _kept(cfg: Mapping, length: int | None) -> dict:
    """Settings that mmengine takes from the checkpoint, in the form in which they are told and put into a config.

    Args:
        length: Iterations of an epoch.
    """
    settings: dict = {}
    schedulers = cfg.get('param_scheduler')
    if schedulers:
        settings['param_scheduler'] = _with_ends(schedulers, _part(cfg, 'train_cfg'), length)
    if any('convert_to_iter_based' in scheduler for scheduler in _schedulers(schedulers)):
        settings['train_dataloader.batch_size'] = _part(cfg, 'train_dataloader').get('batch_size')
    for place, wrapper in _wrappers(cfg).items():
        settings[f'{place}.optimizer'] = wrapper['optimizer']
        for key in ('paramwise_cfg', 'constructor'):
            if wrapper.get(key) is not None:
                settings[f'{place}.{key}'] = wrapper[key]
    scaling = _part(cfg, 'auto_scale_lr')
    if scaling.get('enable'):
        settings['auto_scale_lr'] = dict(scaling) | dict(batch_size=_part(cfg, 'train_dataloader').get('batch_size'))
    return settings


def _schedulers(schedulers: Any) -> Iterator[Mapping]:
    if isinstance(schedulers, list | tuple):
        for scheduler in schedulers:
            yield from _schedulers(scheduler)
    elif isinstance(schedulers, Mapping) and 'type' in schedulers:
        yield schedulers
    elif isinstance(schedulers, Mapping):
        yield from _schedulers(list(schedulers.values()))


def _with_ends(schedulers: Any, train_cfg: Mapping, length: int | None) -> Any:
    """The schedulers with the ``end`` that a Runner gives to those without: the end of the training."""
    schedulers = deepcopy(schedulers)
    for scheduler in _schedulers(schedulers):
        epochs, iterations = train_cfg.get('max_epochs'), train_cfg.get('max_iters')
        if iterations is None and epochs is not None and length:
            iterations = epochs * length
        end = epochs if scheduler.get('by_epoch', True) else iterations
        if scheduler.get('end') is None and end is not None:
            scheduler['end'] = end  # type: ignore[index]
    return schedulers


def _seed_of(cfg: Mapping) -> Any:
    return _part(cfg, 'randomness').get('seed')


def _seed(seed: Any, cfg: Mapping) -> dict:
    """``seed`` as a setting, if the config has one of its own."""
    return {} if _seed_of(cfg) is None or seed is None else {'randomness.seed': seed}


def _put(cfg: Config, old: Mapping, kept: Mapping) -> None:
    """Let ``cfg`` have the settings ``kept`` of the config ``old`` that a checkpoint records."""
    cfg.param_scheduler = kept.get('param_scheduler')
    for place, wrapper in _wrappers(old).items():
        mine = cfg.optim_wrapper if place == 'optim_wrapper' else cfg.optim_wrapper[place.removeprefix('optim_wrapper.')]
        mine.optimizer = wrapper['optimizer']
        for key in ('paramwise_cfg', 'constructor'):
            mine.pop(key, None)
            if key in wrapper:
                mine[key] = wrapper[key]
    if old.get('auto_scale_lr') is not None:
        cfg.auto_scale_lr = old['auto_scale_lr']
    elif 'auto_scale_lr' in cfg:
        cfg.auto_scale_lr.enable = False
    if 'randomness.seed' in kept:
        cfg.randomness.seed = kept['randomness.seed']
