"""A one-stage detector for sequences of windows, some of which have no labels."""

import torch
from mmdet.models.detectors import SingleStageDetector
from mmdet.models.utils import unpack_gt_instances
from torch import Tensor

from mmspike.registry import MODELS


@MODELS.register_module()
class EventDetector(SingleStageDetector):
    """mmdet's ``SingleStageDetector`` whose loss leaves out samples that say ``labelled=False``.

    The network sees them, so that membranes of ``stateful`` neurons go on; that nothing is labelled there does not say that
    nothing is there. Arguments are mmdet's.
    """

    def loss(self, batch_inputs: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """mmdet's losses of the labelled samples; 0 where there are none.

        Args:
            batch_inputs: [T, B, C, H, W].
            batch_data_samples: B samples of mmdet.
        """
        outputs = self.bbox_head(self.extract_feat(batch_inputs))
        labelled = [i for i, sample in enumerate(batch_data_samples) if sample.metainfo.get('labelled', True)]
        if not labelled:
            # of all outputs, so that every parameter has a gradient
            return dict(loss_cls=torch.stack([level.sum() * 0 for levels in outputs for level in levels]).sum())
        chosen = tuple([level[labelled] for level in levels] for levels in outputs)
        instances, ignored, metas = unpack_gt_instances([batch_data_samples[i] for i in labelled])
        return self.bbox_head.loss_by_feat(*chosen, instances, metas, ignored)
