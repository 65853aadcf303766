"""Pictures of predictions on recordings. Needs mmpretrain."""

from collections.abc import Sequence

import torch
from mmpretrain.engine.hooks import VisualizationHook
from mmpretrain.structures import DataSample

from mmspike.registry import HOOKS

from .plots import film_strip


@HOOKS.register_module()
class EventVisualizationHook(VisualizationHook):
    """mmpretrain's ``VisualizationHook`` for frames of events: a recording's frames side by side, with label and prediction.

    Args:
        kwargs: mmpretrain's: ``enable`` (``--show-dir`` of tools/test.py sets it), ``interval``, ``show``, ``out_dir``.
    """

    def _draw_samples(self, batch_idx: int, data_batch: dict, data_samples: Sequence[DataSample], step: int = 0) -> None:
        if self.enable:
            strips = [torch.from_numpy(film_strip(frames.cpu().numpy())) for frames in data_batch['inputs']]
            data_batch = data_batch | dict(inputs=[strip.permute(2, 0, 1) for strip in strips])
        super()._draw_samples(batch_idx, data_batch, data_samples, step)
