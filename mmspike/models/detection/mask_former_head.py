"""Spiking mask transformer for instance and panoptic segmentation."""

from collections.abc import Sequence

from mmdet.models.dense_heads import MaskFormerHead
from mmdet.models.dense_heads.anchor_free_head import AnchorFreeHead

from mmspike.models.mask_former.head import SpikingMaskFormer
from mmspike.registry import MODELS


@MODELS.register_module()
class SpikingPanopticHead(SpikingMaskFormer, MaskFormerHead):
    """The mask transformer as ``panoptic_head`` of mmdet's ``MaskFormer``, with its ``MaskFormerFusionHead`` behind it.

    ``test_cfg`` of the detector says what comes out: ``panoptic_on``, ``instance_on``. Semantic segmentation is mmseg's, see
    ``SpikingMaskFormerHead``.

    Args:
        in_channels: Channels of the features, finest first, see :class:`mmspike.models.mask_former.SpikingMaskTransformer`,
            which takes ``network``.
        feature_strides: Their strides, each twice the one before.
        num_things_classes, num_stuff_classes: Classes of things and of stuff; 0 of stuff for instances alone.
        network: Further arguments of the network: ``channels``, ``num_queries``, ``encoder_layers`` and so on.
        neuron, norm_cfg: Of the network.
        no_object_weight: Weight of no object in the classification loss.
        loss_cls, loss_mask, loss_dice: The host's losses, by default the published: cross entropy 1, focal 20, dice 1.
        full_size_losses: Masks are enlarged to the size of the image for the losses, as published; False: labels are shrunk to
            the size of the masks, for 1 / stride^2 of the time and memory of many instances.
        train_cfg: ``assigner`` of mmdet; by default Hungarian, with costs of classes 1, focal 20, dice 1.
        test_cfg: The fusion head's.

    Shape:
        Features [T, B, C_i, H_i, W_i], membranes -> lists of scores [B, Q, classes + 1] and mask logits [B, Q, H_0, W_0].

    Example:
        >>> import torch
        >>> from mmspike.models.detection import SpikingPanopticHead
        >>> small = dict(channels=16, num_queries=10, encoder_layers=1, groups=2, decoder_layers=1, num_heads=2)
        >>> head = SpikingPanopticHead([8, 8], [4, 8], num_things_classes=2, num_stuff_classes=1, network=small).eval()
        >>> scores, masks = head((torch.randn(1, 2, 8, 16, 16), torch.randn(1, 2, 8, 8, 8)))
        >>> scores[-1].shape, masks[-1].shape
        (torch.Size([2, 10, 4]), torch.Size([2, 10, 16, 16]))
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        feature_strides: Sequence[int],
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        network: dict | None = None,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        no_object_weight: float = 0.1,
        loss_cls: dict | None = None,
        loss_mask: dict | None = None,
        loss_dice: dict | None = None,
        full_size_losses: bool = True,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super(AnchorFreeHead, self).__init__(init_cfg=init_cfg)
        self.num_things_classes, self.num_stuff_classes = num_things_classes, num_stuff_classes
        sizes = dict(num_classes=num_things_classes + num_stuff_classes, in_channels=in_channels)
        network = {**sizes, **(network or {}), 'neuron': neuron, 'norm_cfg': norm_cfg}
        losses = no_object_weight, loss_cls, loss_mask, loss_dice
        self._init_parts(network, feature_strides, None, *losses, train_cfg, test_cfg, full_size_losses)
