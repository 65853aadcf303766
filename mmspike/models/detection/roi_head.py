"""RoI heads and the RoI extractor for features with a time axis."""

from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from mmspike.models.layers import fold, unfold
from mmspike.registry import MODELS


@MODELS.register_module()
class SpikingRoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor`` at every time step: the membrane under a box, not its spikes, is interpolated.

    The arguments are the host's. Features of half precision are read in float32, since their type could not hold a box; the
    regions have their type again.

    Shape:
        Levels [T, B, C, H_i, W_i] and rois [N, 5] (image index, x1, y1, x2, y2) -> [T, N, C, h, w].
    """

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
        T, B = feats[0].shape[:2]
        dtype = torch.promote_types(feats[0].dtype, torch.float32)
        # image b at step t is image t * B + b of the folded batch
        steps = torch.arange(T, device=rois.device, dtype=rois.dtype).repeat_interleave(len(rois))
        all_rois = rois.repeat(T, 1)
        all_rois[:, 0] += steps * B
        regions = super().forward(tuple(fold(x).to(dtype) for x in feats), all_rois, roi_scale_factor)
        return unfold(regions.to(feats[0].dtype), T)


def _swap(feats: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """[T, B, …] <-> [B, T, …], views."""
    return tuple(x.transpose(0, 1) for x in feats)


class _ImagesFirst:
    """The host's RoI heads index features by image, so inside them features are [B, T, C, H, W]."""

    def loss(self, x: tuple[Tensor, ...], *args, **kwargs) -> dict:
        return super().loss(_swap(x), *args, **kwargs)  # type: ignore[misc]

    def predict(self, x: tuple[Tensor, ...], *args, **kwargs) -> list:
        return super().predict(_swap(x), *args, **kwargs)  # type: ignore[misc]

    def forward(self, x: tuple[Tensor, ...], *args, **kwargs) -> tuple:
        return super().forward(_swap(x), *args, **kwargs)  # type: ignore[misc]


@MODELS.register_module()
class SpikingStandardRoIHead(_ImagesFirst, StandardRoIHead):
    """mmdet's ``StandardRoIHead`` on features [T, B, C, H, W]; the arguments are the host's.

    Its parts are ``mmspike.SpikingRoIExtractor``, a spiking box head and ``mmspike.SpikingFCNMaskHead``. A ``shared_head``
    (a ResNet stage) is refused.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        _refuse_shared_head(self)

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        return super()._bbox_forward(_swap(x), rois)

    def _mask_forward(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor | None = None,
        pos_inds: Tensor | None = None,
        bbox_feats: Any = None,
    ) -> dict:
        if pos_inds is not None:  # the mask head shares the box head's RoI features [T, N, C, h, w]
            mask_feats = bbox_feats[:, pos_inds.bool()]  # mmdet gives uint8
            return dict(mask_preds=self.mask_head(mask_feats), mask_feats=mask_feats)
        return super()._mask_forward(_swap(x), rois)


@MODELS.register_module()
class SpikingCascadeRoIHead(_ImagesFirst, CascadeRoIHead):
    """mmdet's ``CascadeRoIHead`` on features [T, B, C, H, W]; the arguments are the host's, its parts spiking ones."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        _refuse_shared_head(self)

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        return super()._bbox_forward(stage, _swap(x), rois)

    def _mask_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        return super()._mask_forward(stage, _swap(x), rois)


def _refuse_shared_head(roi_head: StandardRoIHead | CascadeRoIHead) -> None:
    if roi_head.with_shared_head:
        raise ValueError(
            f'{type(roi_head).__name__} takes no shared_head, got {type(roi_head.shared_head).__name__}: it would read '
            'features without time and apply a ReLU'
        )
