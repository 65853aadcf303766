"""Spiking mask transformer for semantic segmentation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.decode_heads.maskformer_head import MaskFormerHead
from torch import Tensor

from mmspike.models.mask_former.head import SpikingMaskFormer
from mmspike.registry import MODELS
from mmspike.utils.optional import is_installed


@MODELS.register_module()
class SpikingMaskFormerHead(SpikingMaskFormer, MaskFormerHead):
    """The mask transformer as decode head of mmseg (Spike2Former, arXiv 2412.14587). Needs mmdetection, as mmseg's own.

    Args:
        in_channels: Channels of the features that ``in_index`` names, finest first, see
            :class:`mmspike.models.mask_former.SpikingMaskTransformer`, which takes ``network``.
        feature_strides: Their strides, each twice the one before.
        in_index: The features; None: all.
        num_classes: Classes.
        network: Further arguments of the network: ``channels``, ``num_queries``, ``encoder_layers`` and so on.
        neuron, norm_cfg: Of the network.
        no_object_weight: Weight of no object in the classification loss.
        loss_cls, loss_mask, loss_dice: mmdet's losses, by default the published: cross entropy 1, focal 20, dice 1.
        full_size_losses: Masks are enlarged to the size of the image for the losses, as published; False: labels are shrunk to
            the size of the masks, for 1 / stride^2 of the time and memory of many instances.
        train_cfg: ``assigner`` of mmdet; by default Hungarian, with costs of classes 1, focal 20, dice 1.
        align_corners, ignore_index: As mmseg's.

    Shape:
        Features [T, B, C_i, H_i, W_i], membranes -> lists of scores [B, Q, classes + 1] and mask logits [B, Q, H_0, W_0].
        ``predict`` gives [B, classes, H, W] of the image: sums over queries of class and mask probabilities.

    Raises:
        ImportError: mmdet is not installed.

    Example:
        >>> import torch
        >>> from mmspike.models.segmentation import SpikingMaskFormerHead
        >>> small = dict(channels=16, num_queries=10, encoder_layers=1, groups=2, decoder_layers=1, num_heads=2)
        >>> head = SpikingMaskFormerHead([8, 8], [4, 8], num_classes=3, network=small).eval()
        >>> feats = torch.randn(1, 2, 8, 16, 16), torch.randn(1, 2, 8, 8, 8)
        >>> head.predict(feats, [dict(img_shape=(64, 64))] * 2, None).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        feature_strides: Sequence[int],
        num_classes: int,
        in_index: Sequence[int] | None = None,
        network: dict | None = None,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        no_object_weight: float = 0.1,
        loss_cls: dict | None = None,
        loss_mask: dict | None = None,
        loss_dice: dict | None = None,
        full_size_losses: bool = True,
        align_corners: bool = False,
        ignore_index: int = 255,
        train_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not is_installed('mmdet'):
            raise ImportError('mmspike.SpikingMaskFormerHead needs mmdet: pip install onedl-mmdetection')
        BaseModule.__init__(self, init_cfg=init_cfg)
        self.out_channels, self.align_corners, self.ignore_index = num_classes, align_corners, ignore_index
        network = {'num_classes': num_classes, 'in_channels': in_channels, **(network or {})}
        network |= {'neuron': neuron, 'norm_cfg': norm_cfg}
        losses = no_object_weight, loss_cls, loss_mask, loss_dice
        self._init_parts(network, feature_strides, in_index, *losses, train_cfg, None, full_size_losses)

    def predict(self, x: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: dict | None) -> Tensor:
        """Scores [B, classes, H, W] at the size of the network's input, which may be padded or a window of an image."""
        (scores,), (masks,) = self(x)
        stride, meta = self.feature_strides[0], batch_img_metas[0]
        # a window keeps the pad_shape of its image
        sizes = [meta[key][:2] for key in ('pad_shape', 'img_shape') if key in meta]
        size = next((s for s in sizes if [-(-side // stride) for side in s] == list(masks.shape[-2:])), sizes[-1])
        return self.sum_over_queries(scores, masks, size)

    def sum_over_queries(self, scores: Tensor, masks: Tensor, size: Sequence[int]) -> Tensor:
        """Class times mask probabilities of all queries, [B, classes, H, W] of the ``size`` of the input.

        Args:
            scores: [B, Q, classes + 1].
            masks: Logits [B, Q, H_0, W_0].
        """
        stride = self.feature_strides[0]
        masks = F.interpolate(masks, scale_factor=stride, mode='bilinear', align_corners=self.align_corners)
        # what was rounded up to whole strides lies below and to the right
        probabilities = masks[..., : size[0], : size[1]].sigmoid()
        return torch.einsum('bqc,bqhw->bchw', scores.softmax(-1)[..., :-1], probabilities)
