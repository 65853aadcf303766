"""Features of a backbone, measured by a dry run, and the stages of a spiking one that take their place."""

import inspect
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import log2
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmspike.config.names import type_name
from mmspike.models.backbones.base import SpikingBackbone
from mmspike.models.backbones.extra_stages import ExtraStages
from mmspike.models.checkpoints import without_pretrained
from mmspike.models.neurons.base import BaseNeuron
from mmspike.utils.errors import describe

from .parse import SwapError

SIDE = 256  # px of the trial image, a multiple of every stride


@dataclass
class Features:
    """Features of a backbone.

    Attributes:
        channels, strides: In the order in which it returns its features; a pooled vector has stride None.
        steps: Time steps of features [T, B, C, H, W]; None of features [B, C, H, W].
    """

    channels: list[int]
    strides: list[Any]
    steps: int | None = None

    def __str__(self) -> str:
        scales = [f'{c} at stride {s}' if s else f'{c} pooled' for c, s in zip(self.channels, self.strides, strict=True)]
        return f'channels {", ".join(scales)}'


def _trial_sides(cfg: dict) -> list[int]:
    """Sides of the trial image to be tried: some transformers accept one size only."""
    size = cfg.get('img_size', 224)
    size = size if isinstance(size, int) else size[0]
    return list(dict.fromkeys((SIDE, size, 224)))


@torch.no_grad()
def measure(cfg: dict) -> Features:
    """Build a backbone without its weights and look at the features of a trial image.

    Raises:
        SwapError: It cannot be built or run, or does not give feature maps.
    """
    name = type_name(cfg)
    channels = cfg.get('in_channels', 3)
    channels = channels if isinstance(channels, int) else 3
    try:
        backbone = MODELS.build(without_pretrained(cfg))
    except Exception as error:
        raise SwapError(f'backbone ({name}) cannot be built: {describe(error)}') from error
    backbone.eval()  # no chaining: train() of the hosts' backbones returns None
    for side in _trial_sides(cfg):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', '.* on images computes the same')  # it may be meant for event frames
                feats = backbone(torch.zeros(1, channels, side, side))
            break
        except Exception as error:
            failure = f'{side} px: {describe(error)}'
    else:
        raise SwapError(f'backbone ({name}) does not run on images [1, {channels}, H, W] of {_trial_sides(cfg)} px; {failure}')
    feats = [feats] if isinstance(feats, Tensor) else feats
    steps = None
    if isinstance(backbone, (SpikingBackbone, ExtraStages)) and backbone.temporal_output == 'keep':
        steps, feats = backbone.T, [f[0] for f in feats]
    if not isinstance(feats, list | tuple) or not all(isinstance(f, Tensor) and f.dim() in (2, 4) for f in feats):
        shapes = [tuple(f.shape) if isinstance(f, Tensor) else type(f).__name__ for f in feats]
        raise SwapError(f'backbone ({name}) gives {shapes}: only feature maps [B, C, H, W] and vectors [B, C] can be replaced')
    strides = [round(side / f.shape[-1]) if f.dim() == 4 else None for f in feats]
    return Features([f.shape[1] for f in feats], strides, steps)


def _neuron_config(backbone: nn.Module) -> dict:
    """The config of the backbone's first neuron."""
    neuron = next((m for m in backbone.modules() if isinstance(m, BaseNeuron)), None)
    if neuron is None:
        raise SwapError('backbone: it has no neuron of mmspike, so give the one of new stages and heads with neuron=...')
    arguments: dict = {}
    cls: Any
    for cls in type(neuron).__mro__:
        parameters = inspect.signature(cls.__init__).parameters
        arguments |= {p: getattr(neuron, p) for p in parameters if hasattr(neuron, p)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return dict(type=type(neuron).__name__, **arguments)


@dataclass
class Candidates:
    """Every feature that a spiking backbone can give: the stem's, then one a stage."""

    cfg: dict
    channels: list[int]
    strides: list[int]
    neuron: dict

    def labels(self, positions: list[int]) -> tuple:
        """``out_indices`` of positions among the features."""
        return tuple('stem' if p == 0 else p - 1 for p in positions)

    def take(self, positions: list[int], num_extra: int = 0, keep_time: bool = False) -> ConfigDict:
        """The backbone that returns the features at ``positions``; those from ``len(strides)`` on are further stages."""
        last = len(self.strides) - 1
        time = dict(temporal_output='keep') if keep_time else {}
        if not num_extra:
            return ConfigDict(**self.cfg, out_indices=self.labels(positions), **time)
        inner = [p for p in positions if p < last] + [last]
        outer = [inner.index(p) if p <= last else len(inner) + p - last - 1 for p in positions]
        return ConfigDict(
            type='mmspike.ExtraStages',
            backbone=dict(**self.cfg, out_indices=self.labels(inner)),
            num_stages=num_extra,
            neuron=self.neuron,
            out_indices=tuple(outer),
            **time,
        )


def candidates(cfg: dict, in_channels: int) -> Candidates:
    """Features of the backbone ``cfg``, which gets ``in_channels`` unless it says so itself.

    Raises:
        SwapError: It is not a spiking backbone of mmspike, cannot be built, or fixes what the swap chooses.
    """
    fixed = [key for key in ('out_indices', 'temporal_output') if key in cfg]
    if fixed:
        raise SwapError(f'backbone ({type_name(cfg)}): leave out {" and ".join(fixed)}, which follow from the config')
    cfg = dict(cfg) if in_channels == 3 or 'in_channels' in cfg else dict(cfg, in_channels=in_channels)
    try:
        backbone = MODELS.build(without_pretrained(cfg))
        if not isinstance(backbone, SpikingBackbone):
            raise SwapError(f'{type_name(cfg)} is no spiking backbone of mmspike')
        everything = ('stem', *range(len(backbone.stages)))
        backbone = MODELS.build(without_pretrained(cfg) | dict(out_indices=everything))
    except Exception as error:
        raise SwapError(f'backbone: cannot build {cfg}: {describe(error)}') from error
    return Candidates(
        cfg, list(backbone.out_channels), list(backbone.out_strides), cfg.get('neuron') or _neuron_config(backbone)
    )


def same_strides(old: Features, new: Candidates) -> tuple[list[int], int]:
    """Positions of features with exactly the old strides, of equal ones the last, and the number of further stages needed.

    Raises:
        SwapError: There are none.
    """
    positions: list[int] = []
    top, num_extra = len(new.strides) - 1, 0
    for stride in reversed(old.strides):
        beyond = log2(stride / new.strides[-1]) if stride else 0.0
        if beyond > 0 and beyond.is_integer():
            found, num_extra = [top + int(beyond)], max(num_extra, int(beyond))
        else:
            found = [p for p, s in enumerate(new.strides) if s == stride]
        found = [p for p in found if not positions or p < positions[0]]
        if not found:
            raise SwapError(
                f'neck and heads expect features of strides {old.strides} in this order; {type_name(new.cfg)} has strides '
                f'{new.strides} (stem and stages, and twice the last and so on by further stages), with none for '
                f'stride {stride}'
            )
        positions.insert(0, found[-1])
    return positions, num_extra


def nearest_strides(old: Features, new: Candidates) -> list[int]:
    """Positions of as many features as before with the nearest strides, as ratios; of equally near ones the last.

    Raises:
        SwapError: The new backbone has fewer features.
    """
    n = len(old.strides)
    if n > len(new.strides):
        raise SwapError(f'heads expect {n} features ({old}); {type_name(new.cfg)} has {len(new.strides)}')

    def distance(positions: Iterable[int]) -> Any:
        ratios = [abs(log2(new.strides[p] / s)) for p, s in zip(positions, old.strides, strict=True) if s]
        return round(sum(ratios), 6), [-p for p in positions]

    return list(min(combinations(range(len(new.strides)), n), key=distance))
