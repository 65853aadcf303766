"""Compares names and shapes of a checkpoint with those of a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from mmengine.model import BaseModule, BaseTTAModel, is_model_wrapper
from mmengine.model.weight_init import PretrainedInit
from mmengine.registry import MODELS as ALL_MODELS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmspike.registry import MODELS
from mmspike.utils.errors import UserError

Shape = tuple[int, ...]

#: entries whose first size counts something: how the name ends, what is counted, what is counted beside it (no object, the
#: background), and the setting of the config
COUNTS = (
    ('query_feat.weight', 'queries', 0, 'num_queries'),
    ('query_embedding.weight', 'queries', 0, 'num_queries'),
    ('queries_to_masks.classify.weight', 'classes', 1, 'num_classes'),
    ('cls_embed.weight', 'classes', 1, 'num_classes'),
    ('fc_cls.weight', 'classes', 1, 'num_classes'),
    ('conv_seg.weight', 'classes', 0, 'num_classes'),
    ('head.fc.weight', 'classes', 0, 'num_classes'),
)


def shapes_of(state_dict: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {k: tuple(v.shape) for k, v in state_dict.items()}


@dataclass
class Mismatch:
    """Differences between a state dict and a model; shapes by name.

    Attributes:
        missing: Of the model alone. Not among them are layer scales, which start at 1 and change nothing, and steps of
            weights of few bits, which follow from the weights.
        unexpected: Of the state dict alone.
        reshaped: Of both, the state dict's shape and the model's.
    """

    missing: dict[str, Shape]
    unexpected: dict[str, Shape]
    reshaped: dict[str, tuple[Shape, Shape]]


def mismatch(model: nn.Module, state_dict: Mapping[str, Tensor], part: str = '') -> Mismatch:
    """Compare a state dict with a model, entry by entry.

    Args:
        part: Look at entries whose names begin with this only, for example 'backbone.'.

    Example:
        >>> from torch import nn
        >>> from mmspike.models.checkpoints import mismatch
        >>> found = mismatch(nn.Linear(2, 3), nn.Linear(4, 3, bias=False).state_dict())
        >>> found.missing, found.reshaped
        ({'bias': (3,)}, {'weight': ((3, 4), (3, 2))})
    """
    want, got = ({k: v for k, v in shapes_of(d).items() if k.startswith(part)} for d in (model.state_dict(), state_dict))
    return Mismatch(
        missing={k: v for k, v in want.items() if k not in got and '.layer_scale' not in k and not k.endswith('.weight_step')},
        unexpected={k: v for k, v in got.items() if k not in want},
        reshaped={k: (got[k], v) for k, v in want.items() if k in got and got[k] != v},
    )


def explain_mismatch(model: nn.Module, state_dict: Mapping[str, Tensor]) -> str:
    """Every missing, unexpected and mis-shaped key of a ``state_dict`` against ``model``, a line each; empty if it fits."""
    found = mismatch(model, state_dict)
    lines = [f'missing: {k} {shape}' for k, shape in found.missing.items()]
    lines += [f'unexpected: {k} {shape}' for k, shape in found.unexpected.items()]
    lines += [f'shape: {k} is {a} in the checkpoint and {b} in the model' for k, (a, b) in found.reshaped.items()]
    if lines:
        lines.append(f'nearest preset: {nearest_preset(state_dict)}')
    return '\n'.join(lines)


@cache
def preset_shapes(cls: type[nn.Module], arch: str) -> frozenset[tuple[str, Shape]]:
    """Names and shapes in the state dict of a backbone's preset."""
    with torch.device('meta'):
        return frozenset(shapes_of(cls(arch=arch).state_dict()).items())


def nearest_preset(state_dict: Mapping[str, Tensor]) -> str:
    """The preset of a registered backbone that shares the most shapes with a converted state dict, and how many."""
    got = {(k.removeprefix('backbone.'), s) for k, s in shapes_of(state_dict).items() if not k.startswith(('head.', 'neck.'))}
    candidates = []
    for name, cls in MODELS.module_dict.items():
        for arch in getattr(cls, 'arch_settings', {}):
            want = preset_shapes(cls, arch)
            text = f"mmspike.{name}(arch='{arch}'), {len(got & want)} of {len(got)} backbone entries fit"
            candidates.append((len(got & want) - len(want - got), text))
    return max(candidates)[1]


def read(path: str) -> dict:
    """The content of a checkpoint file or URL.

    Raises:
        UserError: It is missing, broken, or holds more than tensors and plain values.
    """
    try:
        return CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    except (FileNotFoundError, RuntimeError) as error:
        raise UserError(str(error)) from error


def weights_of(checkpoint: Mapping[str, Any], path: str) -> Mapping[str, Tensor]:
    """The weights in the content of the checkpoint ``path``: its ``state_dict``, or all of it.

    Raises:
        UserError: They lie elsewhere in it; the text names the entries that may be meant.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    if not isinstance(weights, Mapping):
        raise UserError(f'checkpoint {path}: state_dict is a {type(weights).__name__}, expected a dict of tensors by name')
    nested = {k: v for k, v in weights.items() if isinstance(v, Mapping) and any(isinstance(w, Tensor) for w in v.values())}
    if nested and not any(isinstance(v, Tensor) for v in weights.values()):
        sizes = ', '.join(f'{k} ({len(v)} entries)' for k, v in nested.items())
        example = f"torch.load('{path}', map_location='cpu')[{next(iter(nested))!r}]"
        raise UserError(
            f"checkpoint {path} has its weights not under 'state_dict' but under: {sizes}. Write the one that you want into a "
            f"file of its own: torch.save(dict(state_dict={example}), 'weights.pth')"
        )
    return weights


def _prefix_advice(missing: list[str], given: Mapping, path: str) -> str:
    """A line on entries that are there under longer or shorter names, as other frameworks write them; empty if they are not."""
    if not missing:
        return ''
    longer = {key[: -len(missing[0])] for key in given if key.endswith(f'.{missing[0]}')}
    if found := sorted(prefix for prefix in longer if all(prefix + key in given for key in missing)):
        renamed = f"{{k.removeprefix({found[0]!r}): v for k, v in content['state_dict'].items() if k.startswith({found[0]!r})}}"
        return (
            f'  It has them under names that begin with {" or ".join(map(repr, found))}. Write them anew: content = '
            f"torch.load('{path}', map_location='cpu'); torch.save(dict(state_dict={renamed}), 'weights.pth')\n"
        )
    part = missing[0].partition('.')[0]
    own = [key for key in missing if key.startswith(f'{part}.')]
    if all(key.removeprefix(f'{part}.') in given for key in own):
        return (
            f'  It has the weights of the {part} alone, without that name in front: the config loads them with '
            f"model.{part}.init_cfg=dict(type='Pretrained', checkpoint='{path}')\n"
        )
    return ''


def _counts_advice(reshaped: Mapping[str, tuple[Shape, Shape]]) -> str:
    """A line for every number of classes or queries that differs: both numbers, and what to do; empty if none is known."""
    lines = []
    for key, (given, wanted) in reshaped.items():
        for end, what, more, setting in COUNTS:
            # with another width as well it is another network
            if f'.{key}'.endswith(f'.{end}') and given[1:] == wanted[1:]:
                here, there, where = wanted[0] - more, given[0] - more, key.partition('.')[0]
                lines.append(
                    f'  {where}: the checkpoint has {there} {what}, the config {here}. Set {setting} there to {there}, or '
                    f'train anew for {here} {what}: load_from=CHECKPOINT takes over what fits\n'
                )
    return ''.join(dict.fromkeys(lines))


def check_checkpoint_fits(model: nn.Module | dict, path: str, part: str = '', content: Mapping | None = None) -> None:
    """Refuse the checkpoint ``path`` if it does not fill every parameter and buffer of ``model``.

    mmengine would warn and go on with random weights for the rest. What the checkpoint has beyond that (auxiliary heads, a
    teacher) is not a fault, and layer scales that it lacks start at 1.

    Args:
        model: The model, or its config.
        part: Look at entries that begin with this only, for example 'backbone.'.
        content: What is in the file, where it has been read already.

    Raises:
        UserError: Parameters are missing or have another shape, or the file cannot be read.
    """
    if isinstance(model, dict):  # FlexibleRunner builds its model when it starts, and wraps it at once
        model = ALL_MODELS.build(model)
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    content = read(path) if content is None else content
    given = {key.removeprefix('module.'): value for key, value in weights_of(content, path).items()}
    found = mismatch(model, given, part)
    faults = {k: 'missing' for k in found.missing}
    faults |= {k: f'{a} in the checkpoint, {b} in the model' for k, (a, b) in found.reshaped.items()}
    if faults:
        state = model.state_dict()
        lines = '\n  '.join(f'{k}: {faults[k]}' for k in state if k in faults)
        other = 'another architecture' if found.missing else 'other sizes (such as another number of classes)'
        raise UserError(
            f'The checkpoint {path} is of {other} than the config: {len(faults)} of {len(state)} entries do not '
            f'fit.\n  {lines}\n{_counts_advice(found.reshaped)}{_prefix_advice(list(found.missing), given, path)}'
            "  Use it with the config it was trained with (in its work_dir), or convert the authors' weights with "
            'tools/model_converters/official_to_mmspike.py'
        )
    tensors = {k: v for k, v in given.items() if k.startswith(part) and isinstance(v, Tensor) and v.is_floating_point()}
    if broken := [k for k, v in tensors.items() if bool(v.isnan().any())]:
        raise UserError(
            f'The checkpoint {path} has NaN in {len(broken)} of {len(tensors)} entries, the first is {broken[0]}: the training '
            'that wrote it had diverged. Take an earlier one'
        )


def is_pretrained(init_cfg: object) -> bool:
    """True if an item of mmengine's ``init_cfg`` loads a checkpoint."""
    given = init_cfg.get('type') if isinstance(init_cfg, Mapping) else None
    return given is PretrainedInit or (isinstance(given, str) and given.split('.')[-1] in ('Pretrained', 'PretrainedInit'))


def init_weights(module: BaseModule, initialise: Callable[[], None]) -> None:
    """Initialise a module whose ``Pretrained`` checkpoint, a dict or one in a list, has to fit entirely.

    Without a ``prefix`` the checkpoint may be the module's own or, by its keys ``backbone.…``, a whole model's.

    Args:
        initialise: The ``init_weights`` of its base, for everything else in ``init_cfg``.

    Raises:
        ValueError: The checkpoint does not fit; it says what does not.
    """
    whole = module.init_cfg
    items = list(whole) if isinstance(whole, (list, tuple)) else [] if whole is None else [whole]
    pretrained = [item for item in items if is_pretrained(item)]
    if not pretrained or len(pretrained) < len(items):
        module.init_cfg = whole if not pretrained else [item for item in items if not is_pretrained(item)]
        initialise()
        module.init_cfg = whole
    for item in pretrained:
        _load_entirely(module, item['checkpoint'], item.get('prefix'))
    module._is_init = True


def _load_entirely(module: nn.Module, path: str, prefix: str | None) -> None:
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    given = weights_of(checkpoint, path)
    if not prefix:
        own = set(module.state_dict()) & set(given)
        prefix = 'backbone.' if not own and any(k.startswith('backbone.') for k in given) else ''
    prefix = prefix if not prefix or prefix.endswith('.') else f'{prefix}.'
    weights = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
    problems = explain_mismatch(module, weights)
    if problems:
        raise ValueError(
            f"{path} does not fit {type(module).__name__}. A checkpoint of the authors' code is converted by "
            f'tools/model_converters/official_to_mmspike.py.\n{problems}'
        )
    module.load_state_dict(weights)


def without_pretrained(cfg: Any) -> Any:
    """A copy of a model config, or of a part of it, that loads no weights when it is built and initialised.

    ``Pretrained`` items leave every ``init_cfg``, alone or in a list, and so do the older ``pretrained`` keys; other
    initialisations stay.
    """
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(without_pretrained(item) for item in cfg)
    if not isinstance(cfg, dict):
        return cfg
    kept = {}
    for key, value in cfg.items():
        if key == 'pretrained' and (value is True or isinstance(value, str)):
            continue
        if key == 'init_cfg':
            if is_pretrained(value):
                continue
            if isinstance(value, (list, tuple)):
                value = type(value)(item for item in value if not is_pretrained(item))
        kept[key] = without_pretrained(value)
    return type(cfg)(kept)
