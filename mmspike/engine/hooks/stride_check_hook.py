"""Strides, channels and time steps that necks and heads assume, against those of the features."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmspike.models.inspection import evaluating
from mmspike.models.necks.temporal_mean import TemporalMean
from mmspike.registry import HOOKS
from mmspike.utils.errors import UserError

SIDE = 256  # px of the trial image, a multiple of every stride


class FeatureError(UserError, ValueError):
    """A reader of a backbone's features assumes others than it gives; the message says which."""


def check_strides(model: nn.Module) -> None:
    """Raise FeatureError when a neck or head assumes other features than the backbone gives.

    The features are those of a trial image. Looked at are the strides of anchors, RoI extractors and decode heads (published
    configs for spike-driven transformers take the last stage for stride 32, which is 16), the channels of the neck, and whether
    it takes time steps. Does nothing for backbones without ``out_strides``.
    """
    backbone: Any = getattr(model, 'backbone', None)
    if not hasattr(backbone, 'out_strides') or not hasattr(model, 'extract_feat'):
        return
    parameter = next(model.parameters())
    channels = getattr(backbone, 'in_channels', 3)
    image = torch.zeros(1, channels, SIDE, SIDE, device=parameter.device, dtype=parameter.dtype)
    with evaluating(model):
        try:
            features = model.extract_feat(image)
        except Exception as error:
            _explain(model, backbone(image), error)
            raise
    strides = [SIDE // f.shape[-1] for f in features]
    for name, module in model.named_modules():
        if name.endswith('semantic_roi_extractor'):  # HTC's reads the fused map of its semantic head
            continue
        generator = getattr(module, 'prior_generator', None)
        given = strides
        if hasattr(module, 'featmap_strides'):
            assumed = list(module.featmap_strides)
        elif hasattr(module, 'feature_strides'):
            assumed, given = list(module.feature_strides), [strides[i] for i in module.in_index]
        elif generator is not None and hasattr(generator, 'strides'):
            assumed = [s[0] if isinstance(s, tuple) else s for s in generator.strides]
        else:
            continue
        if assumed != given[: len(assumed)]:
            raise FeatureError(
                f'{name} assumes strides {assumed}, but the features it gets have {given}: correct the config (features '
                'that are coarser than the backbone come from mmspike.ExtraStages around it, or from num_outs of the neck)'
            )


def _explain(model: nn.Module, features: Sequence[Tensor], error: Exception) -> None:
    """Raise FeatureError where ``features`` are not what the neck, which failed with ``error``, takes."""
    neck: Any = getattr(model, 'neck', None)
    necks = list(neck) if isinstance(neck, nn.Sequential) else [neck]
    averaged = len(necks) > 1 and isinstance(necks[0], TemporalMean)
    neck = necks[averaged]
    name = type(neck).__name__
    assumed = getattr(neck, 'in_channels', None)
    # channels are the third axis from behind, with or without time steps
    given = [f.shape[-3] for f in features]
    if isinstance(assumed, Sequence) and list(assumed) != given:
        raise FeatureError(
            f'neck ({name}) has in_channels={list(assumed)}, but the backbone ({type(model.backbone).__name__}) gives features '
            f'of {given} channels: correct neck.in_channels'
        ) from error
    timed = features[0].dim() == 5 and not averaged
    if neck is not None and timed and not type(neck).__module__.startswith('mmspike.'):
        raise FeatureError(
            f"the backbone gives features [T, B, C, H, W] (temporal_output='keep'), which the neck {name} does not take "
            f"({error}): set temporal_output='mean', or choose a spiking neck such as mmspike.SpikingFPN"
        ) from error


@HOOKS.register_module()
class StrideCheckHook(Hook):
    """Before a run, checks that anchors, RoI extractors and decode heads assume the strides that the features have.

    Not with ``FlexibleRunner``, whose weights may be sharded: no process could run its part of a trial alone.
    """

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner, Runner):
            return
        check_strides(runner.model.module if is_model_wrapper(runner.model) else runner.model)
