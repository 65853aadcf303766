"""Keys and types of a config that do not exist: named with their place, and with the nearest right ones."""

import ast
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry, init_default_scope
from mmengine.runner import EpochBasedTrainLoop, FlexibleRunner, IterBasedTrainLoop, Runner, TestLoop, ValLoop
from torch.utils.data import DataLoader

from mmspike.registry import MODELS
from mmspike.utils.errors import UserError

# what runners read besides their arguments, and common variables of configs that look like one of those
OTHERS = (
    'find_unused_parameters', 'sync_bn', 'model_wrapper_cfg', 'custom_imports', 'runner_type', 'tta_model', 'tta_pipeline',
    'train_pipeline', 'val_pipeline', 'test_pipeline', 'models', 'compile',
    'efficient_conv_bn_eval', 'activation_checkpointing',
)  # fmt: skip
LOADER_KEYS = ('dataset', 'sampler', 'batch_sampler', 'collate_fn', 'num_batch_per_epoch', 'worker_init_fn')
LOOPS = dict(train_cfg=(EpochBasedTrainLoop, IterBasedTrainLoop), val_cfg=(ValLoop,), test_cfg=(TestLoop,))
ADDED_KEYS = ('type', '_scope_', '_delete_')


def _runner_keys() -> set[str]:
    return {key for runner in (Runner, FlexibleRunner) for key in inspect.signature(runner).parameters} | set(OTHERS)


def _near(word: str, words, cutoff: float = 0.6) -> str | None:
    return next(iter(get_close_matches(word, list(words), 1, cutoff)), None)


def check_top_level(cfg: Config) -> None:
    """Leave if a key at the top of ``cfg`` is nearly, but not quite, one that the runner reads: it would be ignored.

    Raises:
        UserError: There is such a key.
    """
    known = _runner_keys()
    for key in cfg:
        # none of the 2580 configs of mmdet, mmseg, mmpretrain and ours has such a key
        if key not in known and (near := _near(key, known, 0.88)):
            raise UserError(
                f'The config has a key {key!r}, which nobody reads: did you mean {near!r}? A variable of your own needs a name '
                'that is less alike'
            )


def _leaves(item: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict | list | tuple):
        for key, child in item.items() if isinstance(item, dict) else enumerate(item):
            yield from _leaves(child, (*path, str(key)))
    else:
        yield '.'.join(path), item


def check_values(cfg: Config) -> None:
    """Leave if ``cfg`` has a value that a config file cannot have: mmengine keeps a copy of every config that is run, as text.

    Raises:
        UserError: There is such a value, such as an array, a path, a function.
    """
    for place, value in _leaves(cfg._cfg_dict):
        if value is None or isinstance(value, str | int | float | type):
            continue
        try:
            ast.parse(str(value), mode='eval')  # which is how mmengine writes it
        except (SyntaxError, ValueError):
            with suppress(SyntaxError):
                if cfg.pretty_text:
                    return  # a config of the new style, with its imports
            raise UserError(
                f'The config sets {place} to {repr(value)[:60]}, of type {type(value).__name__}. Every run keeps a copy of its '
                'config as text, which has no form for it: write numbers, texts, lists and dicts (of an array .tolist(), of a '
                'path str())'
            ) from None


# keys of mmdet 2, mmseg 0 and mmcls, which nobody reads any more -> where the setting is now
MOVED = {
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config.grad_clip': 'optim_wrapper.clip_grad',
    'optimizer_config': 'optim_wrapper',
    'lr_config': 'param_scheduler (a list of schedules)',
    'momentum_config': 'param_scheduler (a list of schedules)',
    'runner.max_epochs': 'train_cfg.max_epochs',
    'runner.max_iters': 'train_cfg.max_iters',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'total_iters': 'train_cfg.max_iters',
    'data.samples_per_gpu': 'train_dataloader.batch_size',
    'data.workers_per_gpu': 'train_dataloader.num_workers',
    'data.train_dataloader': 'train_dataloader',
    'data.val_dataloader': 'val_dataloader',
    'data.test_dataloader': 'test_dataloader',
    'data.train.times': 'train_dataloader.dataset.times',
    'data.train': 'train_dataloader.dataset',
    'data.val': 'val_dataloader.dataset',
    'data.test': 'test_dataloader.dataset',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'evaluation.interval': 'train_cfg.val_interval',
    'evaluation.metric': 'val_evaluator.metric',
    'evaluation.save_best': 'default_hooks.checkpoint.save_best',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config.interval': 'default_hooks.logger.interval',
    'log_config': 'default_hooks.logger and visualizer.vis_backends',
    'fp16': 'the option --amp',
    'dist_params': 'env_cfg.dist_cfg',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'opencv_num_threads': 'env_cfg.mp_cfg.opencv_num_threads',
    'mp_start_method': 'env_cfg.mp_cfg.mp_start_method',
    'workflow': None,
    'gpu_ids': None,
    'seed': 'randomness.seed',
    'deterministic': 'randomness.deterministic',
    'resume_from': 'the option --resume CHECKPOINT',
    'auto_resume': 'the option --resume',
    'img_norm_cfg': 'model.data_preprocessor (mean and std)',
}


def moved_key(option: str) -> str | None:
    """The present place of a key of the 2.x versions, in words; None for any other key."""
    parts = option.split('.')
    for length in range(len(parts), 0, -1):
        old = '.'.join(parts[:length])
        if old in MOVED:
            new = MOVED[old]
            if new is None:
                return 'it is no more: leave it out'
            rest = '.'.join(parts[length:])
            return f'it is now {new}{"." + rest if rest and " " not in new else ""}'
    return None


def _top_level_hint(option: str, cfg: dict) -> str:
    """The message about a key at the top that neither the config nor the runner has."""
    if moved := moved_key(option):
        return f'a key of the 2.x versions; {moved}'
    key = option.split('.')[0]
    near = _near(key, {*cfg.keys(), *_runner_keys()}, 0.7)
    hint = f'Did you mean {near}?' if near else 'A variable that is really new can be set in the config file'
    return f'the config has no {key}, and nobody would read it. {hint}'


def check_options(cfg: Config, options: dict) -> None:
    """Leave if a key of ``--cfg-options`` is not in ``cfg``, not known to the class there, and nearly one that is in ``cfg``.

    So does a key of the 2.x versions of the hosts, and a new one at the top that no runner reads. Other new keys are let
    through: most defaults stand in no config.

    Raises:
        UserError: There is such a key.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for option in options:
        item: Any = cfg
        path: list[str] = []
        for part in option.split('.'):
            if isinstance(item, list | tuple):
                if not part.isdigit() or int(part) >= len(item):
                    break
                item = item[int(part)]
            elif not hasattr(item, 'keys'):
                break
            elif part in item:
                item = item[part]
            else:
                if not path and part not in _runner_keys():
                    raise UserError(f'--cfg-options {option}: {_top_level_hint(option, item)}')
                near = _near(part, item.keys(), 0.8)
                known = _parameters(item, path) if path else _runner_keys()
                if near is not None and (known is None or part not in known):
                    raise UserError(
                        f'--cfg-options {option}: the config has no {".".join([*path, part])}. '
                        f'Did you mean {".".join([*path, near])}? A key that is really new can be set in the config file'
                    )
                break
            path.append(part)


def resolve_type(given: Any) -> object | None:
    """The class or function that a config's ``type`` names in any registry of the default scope."""
    if not isinstance(given, str):
        return given
    for registry in vars(mmengine.registry).values():
        if isinstance(registry, Registry):
            with registry.switch_scope_and_registry(None) as scoped:
                found = scoped.get(given)
            if found is not None:
                return found
    return MODELS.get(given)  # neurons need no prefix


def _signature(function) -> tuple[set[str], bool]:
    """Names of the parameters, and whether it passes on others."""
    parameters = inspect.signature(function).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return named - {'self'}, any(p.kind == p.VAR_KEYWORD for p in parameters)


def _class_parameters(cls) -> set[str]:
    """Names of the arguments of a class or function; of a class also those that its ``**kwargs`` hand on to its bases."""
    if not inspect.isclass(cls):
        return _signature(cls)[0]
    names: set[str] = set()
    base: Any
    for base in cls.__mro__:
        if '__init__' in vars(base):
            given, passes_on = _signature(base.__init__)
            names |= given
            if not passes_on:
                break
    return names


def default_number(cls: Any, key: str) -> int | None:
    """The default of the parameter ``key`` of a class, if that is a number; also of a base that its ``**kwargs`` hand on to."""
    base: Any
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            if key in parameters:
                value = parameters[key].default
                return value if isinstance(value, int) and not isinstance(value, bool) else None
            if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
                return None
    return None


def _parameters(item: dict, path: list[str]) -> set[str] | None:
    """The keys that the config dict ``item`` at ``path`` may have, or None if that is not known."""
    if 'type' in item:
        cls = resolve_type(item['type'])
        return None if cls is None else _class_parameters(cls) | set(ADDED_KEYS)
    if path[-1].endswith('_dataloader'):
        return _class_parameters(DataLoader) | set(LOADER_KEYS)
    if len(path) == 1 and path[0] in LOOPS:
        loops = set().union(*map(_class_parameters, LOOPS[path[0]]))
        return loops - {'runner', 'dataloader', 'evaluator'} | {'by_epoch', 'type'}
    return None


def _dicts(item, path: tuple[str, ...] = ()) -> Iterator[tuple[list[str], dict]]:
    """Every dict in a config with its path, variables of the config last."""
    if isinstance(item, dict):
        if path:
            yield list(path), item
        for key in item if path else sorted(item, key=lambda key: key not in _runner_keys()):
            yield from _dicts(item[key], (*path, str(key)))
    elif isinstance(item, list | tuple):
        for number, child in enumerate(item):
            yield from _dicts(child, (*path, str(number)))


def _unknown_key(cfg: Config, key: str) -> str | None:
    for path, item in _dicts(cfg._cfg_dict):
        known = _parameters(item, path) if key in item else None
        if known is None or key in known:
            continue
        where = f'{".".join(path)}.{key}'
        owner = f'{item["type"]} takes' if 'type' in item else 'there is'
        known -= set(ADDED_KEYS)
        near = _near(key, known)
        hint = f'Did you mean {near!r}?' if near else f'Known are {", ".join(sorted(known))}'
        return f'The config sets {where}, but {owner} no {key!r}. {hint}'
    return None


def unknown_type(cfg: Config, given: str, registry_name: str) -> str | None:
    """The message about a ``type`` that is not registered: its place and the nearest name; None if it is not in ``cfg``."""
    names: dict[str, str] = {}
    for registry in vars(mmengine.registry).values():
        if isinstance(registry, Registry) and registry.name == registry_name:
            for child in (registry, *registry.children.values()):
                local = child.scope in ('mmengine', cfg.get('default_scope'))
                names |= {name if local else f'{child.scope}.{name}': name for name in child.module_dict}
    bare = given.rsplit('.', 1)[-1]
    near = _near(given, names) or next((full for full, name in names.items() if name == _near(bare, names.values())), None)
    if bare in names.values():
        near = next(full for full, name in names.items() if name == bare)
    places = [f'{".".join(path)}.type' for path, item in _dicts(cfg._cfg_dict) if item.get('type') == given]
    if not places:
        return None
    hint = f'Did you mean {near!r}?' if near else 'Is the package that has it in custom_imports?'
    return f'The config sets {places[0]} to {given!r}, which is not registered. {hint}'


@contextmanager
def config_faults_explained(cfg: Config) -> Iterator[None]:
    """If the body fails because of a key that a class does not take, or a type that does not exist, say where it stands.

    Raises:
        UserError: The explanation, in place of the TypeError or KeyError.
    """
    try:
        yield
    except (TypeError, KeyError) as error:
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        message = None
        if found := re.search(r"got an unexpected keyword argument '(\w+)'", str(error)):
            message = _unknown_key(cfg, found.group(1))
        elif found := re.search(r'(\S+) is not in the \S*::(.+?) registry', str(error).strip('\'"')):
            message = unknown_type(cfg, found.group(1), found.group(2))
        if message is None:
            raise
        raise UserError(message) from error
