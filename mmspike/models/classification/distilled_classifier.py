"""Hard distillation from any mmpretrain or timm classifier."""

from collections.abc import Callable

import torch
from mmpretrain.models.classifiers import ImageClassifier, TimmClassifier
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from mmspike.registry import MODELS


@MODELS.register_module()
class DistilledImageClassifier(ImageClassifier):
    """``ImageClassifier`` whose distilled head learns, besides the labels, the classes that a frozen teacher sees.

    The teacher sees the same preprocessed images, in evaluation mode and without gradient. It is not part of the state dict,
    so a checkpoint is that of the student alone.

    Args:
        teacher: Config of an mmpretrain classifier with its weights, for example ``dict(type='ImageClassifier', backbone=…,
            head=…, init_cfg=dict(type='Pretrained', checkpoint=…))`` or ``dict(type='TimmClassifier',
            model_name='caformer_b36', pretrained=True)``.
        *args, **kwargs: Those of ``ImageClassifier``; the head must be distilled, such as
            ``mmspike.SpikingLinearClsHead(distilled=True)``.
    """

    def __init__(self, *args, teacher: dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.head, 'fc_kd', None) is None:
            raise ValueError(f'the head {type(self.head).__name__} has no distillation output: set distilled=True')
        model = MMPRETRAIN_MODELS.build(teacher)
        if not isinstance(model, TimmClassifier):  # timm has loaded its weights, and would draw new ones
            model.init_weights()
        # in a list, so that it is neither trained nor saved nor averaged with the student
        self._teacher = [model.eval().requires_grad_(False)]

    def _apply(self, fn: Callable, *args, **kwargs):
        self._teacher[0]._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of images [B, 3, H, W]; see :meth:`SpikingLinearClsHead.loss`."""
        with torch.no_grad():
            teacher_labels = self._teacher[0](inputs, mode='tensor').argmax(1)
        return self.head.loss(self.extract_feat(inputs), data_samples, teacher_labels=teacher_labels)
