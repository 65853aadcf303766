"""What the mask transformer's heads for mmdet and mmseg share: the network, matching and losses."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from .transformer import SpikingMaskTransformer


def shrunk(instances: InstanceData, size: Sequence[int]) -> InstanceData:
    """The instances with masks [N, H, W] of that size: 1 where at least half of a pixel's area is."""
    masks = instances.masks
    if len(masks):
        masks = (F.adaptive_avg_pool2d(masks.float(), tuple(size)) >= 0.5).to(masks.dtype)
    else:
        masks = masks.new_zeros(0, *size)
    return InstanceData(labels=instances.labels, masks=masks)


class SpikingMaskFormer:
    """Mixin in front of mmdet's ``MaskFormerHead`` or a subclass: its network is a :class:`SpikingMaskTransformer`.

    Matching, losses and inference are the host's: Hungarian matching on classes, focal and dice costs of masks; cross entropy
    with a small weight of no object, focal and dice losses on all pixels, for the queries at the start and after every layer.
    """

    transformer: SpikingMaskTransformer
    in_channels: list[int]
    in_index: list[int]
    feature_strides: list[int]

    def _init_parts(
        self,
        network: dict,
        feature_strides: Sequence[int],
        in_index: Sequence[int] | None,
        no_object_weight: float,
        loss_cls: dict | None,
        loss_mask: dict | None,
        loss_dice: dict | None,
        train_cfg: dict | None,
        test_cfg: dict | None,
        full_size_losses: bool,
    ) -> None:
        """Set what the host's methods read, where its own ``__init__`` would build other networks."""
        from mmdet.registry import MODELS, TASK_UTILS

        # the names are mmdet's, whatever the default scope is: mmseg has losses of the same names

        self.transformer = SpikingMaskTransformer(**network)
        self.num_classes = network['num_classes']
        self.in_channels, self.feature_strides = list(network['in_channels']), list(feature_strides)
        self.in_index = list(range(len(self.in_channels))) if in_index is None else list(in_index)
        if not len(self.in_channels) == len(self.feature_strides) == len(self.in_index):
            raise ValueError(
                f'in_channels {self.in_channels}, feature_strides {self.feature_strides} and in_index {self.in_index} must be '
                'as many'
            )
        finest = self.feature_strides[0]
        if self.feature_strides != [finest * 2**i for i in range(len(self.feature_strides))]:
            raise ValueError(f'feature_strides must double from the finest to the coarsest, got {self.feature_strides}')
        self.num_queries = self.transformer.query_decoder.query_feat.num_embeddings
        self.class_weight = [1.0] * self.num_classes + [no_object_weight]
        loss_cls = dict(type='mmdet.CrossEntropyLoss', loss_weight=1.0) | (loss_cls or {})
        self.loss_cls = MODELS.build(loss_cls | dict(class_weight=self.class_weight))
        self.loss_mask = MODELS.build(
            loss_mask or dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0)
        )
        dice = dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0, loss_weight=1.0)
        self.loss_dice = MODELS.build(loss_dice or dice)
        self.train_cfg, self.test_cfg = train_cfg or {}, test_cfg or {}
        self.full_size_losses = full_size_losses
        costs = [
            dict(type='mmdet.ClassificationCost', weight=1.0),
            dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
            dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
        ]
        assigner = self.train_cfg.get('assigner', dict(type='mmdet.HungarianAssigner', match_costs=costs))
        self.assigner = TASK_UTILS.build(assigner)
        self.sampler = TASK_UTILS.build(dict(type='mmdet.MaskPseudoSampler'), default_args=dict(context=self))

    def loss_by_feat(
        self, all_cls_scores: list[Tensor], all_mask_preds: list[Tensor], batch_gt_instances: list, batch_img_metas: list[dict]
    ) -> dict[str, Tensor]:
        """The host's losses, of masks as large as the image or as those of the network."""
        if not self.full_size_losses:
            size = all_mask_preds[-1].shape[-2:]
            batch_gt_instances = [shrunk(instances, size) for instances in batch_gt_instances]
        return super().loss_by_feat(all_cls_scores, all_mask_preds, batch_gt_instances, batch_img_metas)  # type: ignore[misc]

    def init_weights(self) -> None:
        """As published, but for what kept it from learning, see the parts."""
        self.transformer.init_weights()

    def forward(self, x: Sequence[Tensor], batch_data_samples: list | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Scores [B, Q, classes + 1] and mask logits [B, Q, H, W] of features [T, B, C, H, W], see the network."""
        return self.transformer([x[i] for i in self.in_index])
