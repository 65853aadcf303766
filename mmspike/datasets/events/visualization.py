"""Pictures of predictions on recordings. Needs mmpretrain."""

from collections.abc import Sequence

import torch
from mmpretrain.engine.hooks import VisualizationHook
from mmpretrain.structures import DataSample

from mmspike.registry import HOOKS

from .plots import film_strip


class _Strips:
    """A batch of frames; a strip is drawn when it is asked for: most are not."""

    def __init__(self, batch: Sequence[torch.Tensor]) -> None:
        self.batch = batch

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(film_strip(self.batch[index].cpu().numpy())).permute(2, 0, 1)


@HOOKS.register_module()
class EventVisualizationHook(VisualizationHook):
    """mmpretrain's ``VisualizationHook`` for frames of events: a recording's frames side by side, with label and prediction.

    Args:
        kwargs: mmpretrain's: ``enable`` (``--show-dir`` of tools/test.py sets it), ``interval``, ``show``, ``out_dir``.
    """

    def _draw_samples(self, batch_idx: int, data_batch: dict, data_samples: Sequence[DataSample], step: int = 0) -> None:
        super()._draw_samples(batch_idx, data_batch | dict(inputs=_Strips(data_batch['inputs'])), data_samples, step)
