"""The swap itself: choose features, rewrite what reads them, drop what belonged to the old backbone, try the result."""

from copy import deepcopy
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from mmspike.config.names import HOSTS, type_name
from mmspike.utils.errors import describe

from .consumers import (
    decode_heads,
    first_neck,
    reads_backbone,
    rewrite_classifier,
    rewrite_decode_heads,
    rewrite_detector_heads,
    rewrite_feature_strides,
    rewrite_neck,
)
from .features import SIDE, Candidates, Features, candidates, measure, nearest_strides, same_strides
from .parse import SwapError
from .spiking_heads import replace_heads
from .trial import takes_event_frames, try_model, try_optimizer

# optimizer constructors that give layers of known backbones learning rates of their own, and their settings
LAYER_DECAY = dict(
    constructors=(
        'LearningRateDecayOptimizerConstructor',
        'LayerDecayOptimizerConstructor',
        'LearningRateDecayOptimWrapperConstructor',
    ),
    settings=('decay_rate', 'decay_type', 'num_layers', 'layer_decay_rate'),
)


def swap_backbone(cfg: Config, backbone: dict, spiking_heads: bool = False) -> tuple[Config, list[str]]:
    """A copy of a config of mmdet, mmseg or mmpretrain with a spiking backbone.

    Old and new backbone are run on a trial image. Detectors get features of the same number and strides as before (strides
    coarser than the backbone's by ``mmspike.ExtraStages``), segmentors as many with the nearest strides, classifiers the
    last one. Then the channels of what reads them are rewritten, the old backbone's weights are dropped, and the resulting
    model is built and run on a trial image.

    Args:
        cfg: The config; it stays as it is.
        backbone: The spiking backbone without ``out_indices`` and ``temporal_output``, which are chosen.
        spiking_heads: Also replace FPN and heads by the spiking ones where all parts that read a feature have one.

    Returns:
        The new config, and remarks for the user, one a line.

    Raises:
        SwapError: The config cannot be swapped: which module and which shapes are at fault.

    Example:
        >>> from mmengine.config import Config
        >>> from mmspike.config.swap import swap_backbone
        >>> model = dict(
        ...     type='ImageClassifier',
        ...     backbone=dict(type='ResNet', depth=18),
        ...     neck=dict(type='GlobalAveragePooling'),
        ...     head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
        ... )
        >>> vgg = dict(type='mmspike.SpikingVGG', arch=dict(dims=(4, 8, 8), depths=(2, 1, 1)), T=2)
        >>> cfg, remarks = swap_backbone(Config(dict(default_scope='mmpretrain', model=model)), vgg)
        >>> cfg.model.backbone.type, cfg.model.head.in_channels
        ('mmspike.SpikingVGG', 8)
    """
    scope = cfg.get('default_scope')
    if scope not in HOSTS:
        raise SwapError(f'default_scope is {scope!r}, expected one of {", ".join(HOSTS)}')
    model = cfg.get('model')
    if not isinstance(model, dict) or not isinstance(model.get('backbone'), dict):
        raise SwapError(
            f'model ({type_name(model or {})}) has no backbone of its own, only models with model.backbone can be swapped'
        )
    cfg = deepcopy(cfg)
    init_default_scope(scope)
    notes: list[str] = []
    with torch.random.fork_rng(devices=[]):
        old = measure(cfg.model.backbone)
        channels = cfg.model.backbone.get('in_channels', 3)
        new = candidates(_with_steps(cfg, backbone), channels if isinstance(channels, int) else 3)
        _drop_old_weights(cfg, notes)
        given = _set_features(cfg.model, scope, old, new)
        if spiking_heads:
            replace_heads(cfg.model, scope, backbone, new.neuron, notes)
        _add_runtime(cfg, scope)
        try_optimizer(cfg, try_model(cfg))
    notes.append(f'features: {old} before, {given} now')
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    if old.steps is not None:
        notes.append('neck and heads that read time steps stay as they are, with neurons of their own')
    elif 'lr' in optimizer:
        notes.append(
            f'the learning rate {optimizer["lr"]} ({type_name(optimizer)}) was made for the old backbone: what suits a spiking '
            'one is in docs/tutorials/own_config.md'
        )
    if 'init_cfg' not in backbone:
        notes.append('the backbone starts from random weights: give converted ones with --backbone "…,init_cfg=dict(…)"')
    return cfg, notes


def _with_steps(cfg: Config, backbone: dict) -> dict:
    """The new backbone; in a config of event frames with the T of the old one, to which the pipelines count.

    Raises:
        SwapError: It has another T.
    """
    if not takes_event_frames(cfg.model, cfg):
        return backbone
    steps = cfg.model.backbone.get('T')
    if steps is None or backbone.get('T', steps) == steps:
        return backbone if steps is None else dict(backbone, T=steps)
    raise SwapError(
        f'backbone: T={backbone["T"]}, but the pipelines of this config count events in {steps} frames: leave T out, or '
        'change T of the config (of its backbone, mmspike.EventsToFrames and LoadEventFrames) first'
    )


def _set_features(model: ConfigDict, scope: str, old: Features, new: Candidates) -> Features:
    """Set the new backbone and the channels of what reads it; returns its features."""
    neck: Any = first_neck(model)
    if scope == 'mmpretrain' and not (reads_backbone(neck) and isinstance(neck['in_channels'], list | tuple)):
        old = Features(old.channels[-1:], old.strides[-1:], old.steps)
        positions, num_extra = [len(new.strides) - 1], 0
    elif scope == 'mmseg' and not any('strides' in head for _, head in decode_heads(model)):
        positions, num_extra = nearest_strides(old, new), 0
    else:
        positions, num_extra = same_strides(old, new)
    model.backbone = new.take(positions, num_extra, old.steps is not None)
    given = measure(model.backbone)
    before = _behind_neck(model, old) if scope == 'mmseg' else old
    if reads_backbone(neck):
        rewrite_neck(neck, old, given)
    elif scope == 'mmseg':
        rewrite_decode_heads(model, old, given)
    elif scope == 'mmpretrain':
        rewrite_classifier(model, old, given)
    else:
        rewrite_detector_heads(model, old, given)
    if scope == 'mmseg':
        behind = _behind_neck(model, given)
        _check_pyramid(model, before, behind)
        rewrite_feature_strides(model, behind)
    return given


@torch.no_grad()
def _behind_neck(model: ConfigDict, feats: Features) -> Features:
    """The features that heads get."""
    if model.get('neck') is None:
        return feats
    time = () if feats.steps is None else (feats.steps,)
    maps = [torch.zeros(*time, 1, c, SIDE // s, SIDE // s) for c, s in zip(feats.channels, feats.strides, strict=True)]
    shapes = [tuple(m.shape) for m in maps]
    try:
        neck = MODELS.build(model.neck)
        neck.eval()
        outs = neck(maps)
    except Exception as error:
        raise SwapError(f'neck ({type_name(first_neck(model))}) cannot take features {shapes}: {describe(error)}') from error
    return Features([o.shape[-3] for o in outs], [round(SIDE / o.shape[-1]) for o in outs])


def _check_pyramid(model: ConfigDict, before: Features, after: Features) -> None:
    """A neck that enlarges each feature of a plain backbone by a factor of its own makes no pyramid out of a pyramid.

    Raises:
        SwapError: What heads get has other strides than before by more than a factor of 2.
    """
    pairs = zip(before.strides, after.strides, strict=True)
    if model.get('neck') is not None and any(not 1 / 2 <= a / b <= 2 for b, a in pairs):
        raise SwapError(
            f'neck ({type_name(first_neck(model))}) gave the heads strides {before.strides} and would give them {after.strides}'
        )


def _drop_old_weights(cfg: Config, notes: list[str]) -> None:
    """Weights of the whole old model and of its backbone, and learning rates that are bound to its layers."""
    model = cfg.model
    dropped = []
    if model.backbone.get('init_cfg') or model.backbone.get('pretrained'):
        dropped.append('model.backbone.init_cfg')
    if model.pop('pretrained', None):
        dropped.append('model.pretrained')
    if isinstance(model.get('init_cfg'), dict) and model.init_cfg.get('type') == 'Pretrained':
        model.pop('init_cfg')
        dropped.append('model.init_cfg')
    if cfg.get('load_from'):
        cfg.load_from = None
        dropped.append('load_from')
    if dropped:
        notes.append(f'weights of the old backbone dropped: {", ".join(dropped)}')
    wrapper = cfg.get('optim_wrapper', {})
    if str(wrapper.get('constructor', '')).rsplit('.', 1)[-1] in LAYER_DECAY['constructors']:
        settings = [key for key in LAYER_DECAY['settings'] if wrapper.get('paramwise_cfg', {}).pop(key, None) is not None]
        notes.append(
            f'learning rate decay over the layers dropped: {wrapper.pop("constructor")} does not know the new backbone '
            f'(optim_wrapper.paramwise_cfg: {", ".join(settings)})'
        )


def _add_runtime(cfg: Config, scope: str) -> None:
    """Our package and the hooks that every run of ours has."""
    imports = cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    names = [imports['imports']] if isinstance(imports['imports'], str) else list(imports['imports'])
    if 'mmspike' not in names:
        cfg.custom_imports = dict(imports) | dict(imports=[*names, 'mmspike'])
    hooks = list(cfg.get('custom_hooks') or [])
    present = {type_name(hook) for hook in hooks if isinstance(hook, dict)}
    wanted = ['SpikeResetHook', *(['StrideCheckHook'] if scope != 'mmpretrain' else [])]
    cfg.custom_hooks = [*hooks, *(dict(type=f'mmspike.{name}') for name in wanted if name not in present)]
