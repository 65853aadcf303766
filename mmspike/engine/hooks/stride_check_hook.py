"""Strides that anchors, RoI extractors and decode heads assume, against those of the features."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmspike.models.inspection import evaluating
from mmspike.registry import HOOKS

SIDE = 256  # px of the trial image, a multiple of every stride


def check_strides(model: nn.Module) -> None:
    """Raise ValueError when anchors, RoI extractors or decode heads assume other strides than the features have.

    The features' strides are measured on a trial image, so that they are the true ones: published configs for
    spike-driven transformers take the last stage for stride 32, which is 16. Does nothing for other backbones than ours.
    """
    backbone: Any = getattr(model, 'backbone', None)
    if not hasattr(backbone, 'out_strides') or not hasattr(model, 'extract_feat'):
        return
    parameter = next(model.parameters())
    image = torch.zeros(1, backbone.in_channels, SIDE, SIDE, device=parameter.device, dtype=parameter.dtype)
    with evaluating(model):
        features = model.extract_feat(image)
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
            raise ValueError(f'{name} assumes strides {assumed}, but the features it gets have {given}: correct the config')


@HOOKS.register_module()
class StrideCheckHook(Hook):
    """Before a run, checks that anchors, RoI extractors and decode heads assume the strides that the features have.

    Not with ``FlexibleRunner``, whose weights may be sharded: no process could run its part of a trial alone.
    """

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner, Runner):
            return
        check_strides(runner.model.module if is_model_wrapper(runner.model) else runner.model)
