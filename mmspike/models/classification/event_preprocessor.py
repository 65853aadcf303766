"""Batches of event frames."""

import torch
from mmpretrain.models.utils import ClsDataPreprocessor

from mmspike.registry import MODELS


@MODELS.register_module()
class EventDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's classification preprocessor for frames of events: a batch becomes [T, B, 2, H, W] on the model's device.

    Batch augmentations (``model.train_cfg.augments``: mmpretrain's Mixup, CutMix) mix recordings with all time steps alike.

    Args:
        num_classes: Needed for batch augmentations.
        pad_size_divisor: Frames are padded with 0 to multiples of it, at the right and below.
        to_onehot, batch_augments: As mmpretrain's ``ClsDataPreprocessor``.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        pad_size_divisor: int = 1,
        to_onehot: bool = False,
        batch_augments: dict | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            pad_size_divisor=pad_size_divisor,
            to_onehot=to_onehot,
            batch_augments=batch_augments,
        )

    def forward(self, data: dict, training: bool = False) -> dict:
        """``inputs`` [B, T, 2, H, W], or a list of B [T, 2, H, W] -> [T, B, 2, H, W] float32, with the data samples."""
        inputs = data['inputs']
        if not isinstance(inputs, torch.Tensor):
            inputs = torch.stack(list(inputs))
        if inputs.dim() != 5:
            raise ValueError(
                f'expected event frames [B, T, 2, H, W], got shape {tuple(inputs.shape)}: '
                'end the pipeline with mmspike.PackEvents'
            )
        steps = inputs.shape[1]
        # to the parent it is a picture of T * 2 channels
        data = super().forward(data | dict(inputs=inputs.flatten(1, 2)), training)
        data['inputs'] = data['inputs'].unflatten(1, (steps, -1)).transpose(0, 1).contiguous()
        return data
