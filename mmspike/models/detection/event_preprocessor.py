"""Batches of event frames with boxes."""

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor

from mmspike.models.layers import stacked_steps, unstacked_steps
from mmspike.registry import MODELS


@MODELS.register_module()
class EventDetDataPreprocessor(DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor`` for frames of events: a batch becomes [T, B, C, H, W].

    Args:
        pad_size_divisor: Frames are padded at the right and below to multiples of it.
        pad_value: With this value.
        kwargs: mmdet's, but for those that change values of pixels (``mean``, ``std``, ``bgr_to_rgb``, …).

    Example:
        >>> import torch
        >>> from mmdet.structures import DetDataSample
        >>> from mmspike.models.detection import EventDetDataPreprocessor
        >>> samples = [DetDataSample(metainfo=dict(img_shape=(60, 70))) for _ in range(2)]
        >>> data = dict(inputs=[torch.zeros(5, 2, 60, 70)] * 2, data_samples=samples)
        >>> EventDetDataPreprocessor(pad_size_divisor=32)(data)['inputs'].shape
        torch.Size([5, 2, 2, 64, 96])
    """

    def __init__(self, pad_size_divisor: int = 32, pad_value: float = 0, **kwargs) -> None:
        super().__init__(pad_size_divisor=pad_size_divisor, pad_value=pad_value, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """``inputs`` [B, T, C, H, W], or a list of B [T, C, H, W] -> [T, B, C, H, W] float32, with the data samples."""
        frames, steps = stacked_steps(data['inputs'])
        data = super().forward(data | dict(inputs=frames), training)
        inputs: torch.Tensor = data['inputs']
        data['inputs'] = unstacked_steps(inputs, steps)
        return data
