"""Batches of event frames with label maps."""

from mmengine.config import ConfigDict
from mmseg.models import SegDataPreProcessor

from mmspike.models.layers import stacked_steps, unstacked_steps
from mmspike.registry import MODELS


@MODELS.register_module()
class EventSegDataPreprocessor(SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor`` for frames of events: a batch becomes [T, B, C, H, W].

    Args:
        size_divisor: Frames, and label maps in training, are padded at the right and below to multiples of it.
        size: Instead, height and width to pad to in training.
        pad_val, seg_pad_val: With these values.
        kwargs: mmseg's, but for those that change values of pixels (``mean``, ``std``, ``bgr_to_rgb``, …).

    Example:
        >>> import torch
        >>> from mmseg.structures import SegDataSample
        >>> from mmspike.models.segmentation import EventSegDataPreprocessor
        >>> samples = [SegDataSample() for _ in range(2)]
        >>> data = dict(inputs=[torch.zeros(5, 2, 60, 70)] * 2, data_samples=samples)
        >>> EventSegDataPreprocessor(size_divisor=32)(data)['inputs'].shape
        torch.Size([5, 2, 2, 64, 96])
    """

    def __init__(
        self,
        size_divisor: int | None = 32,
        size: tuple[int, int] | None = None,
        pad_val: float = 0,
        seg_pad_val: float = 255,
        **kwargs,
    ) -> None:
        size_divisor = None if size is not None else size_divisor
        if size is None:
            kwargs.setdefault('test_cfg', ConfigDict(size_divisor=size_divisor))
        super().__init__(size=size, size_divisor=size_divisor, pad_val=pad_val, seg_pad_val=seg_pad_val, **kwargs)

    def forward(self, data: dict, training: bool = False) -> dict:
        """``inputs`` [B, T, C, H, W], or a list of B [T, C, H, W] -> [T, B, C, H, W] float32, with the data samples."""
        frames, steps = stacked_steps(data['inputs'])
        data = super().forward(data | dict(inputs=frames), training)
        data['inputs'] = unstacked_steps(data['inputs'], steps)
        return data
