"""Label maps of events, and the input of mmseg's models. Needs mmseg."""

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs

from mmspike.registry import TRANSFORMS

from .moving import IGNORED
from .recording import unreadable


@TRANSFORMS.register_module()
class LoadEventSegMap(LoadAnnotations):
    """mmseg's ``LoadAnnotations`` for windows of events: one without a label has a map of 255, which is not learned.

    Args:
        kwargs: mmseg's.

    Raises:
        RecordingError: (a ValueError) The map is broken, or has another size than the data set's ``image_size``; it is named.
    """

    def _load_seg_map(self, results: dict) -> None:
        size = tuple(results.get('image_size') or results['sensor_size'])
        if results['labelled']:
            try:
                super()._load_seg_map(results)
            except OSError as error:
                raise unreadable(results['seg_map_path'], error) from error
        else:
            results['gt_seg_map'] = np.full(size, IGNORED, np.uint8)
        found = results['gt_seg_map'].shape
        if found != size:
            raise unreadable(
                results['seg_map_path'],
                f'it has {found} px, the data set {size} (height, width): set sensor_size and image_size',
            )


@TRANSFORMS.register_module()
class PackEventSegInputs(PackSegInputs):
    """mmseg's ``PackSegInputs`` for frames of events: ``img`` [H, W, T C] becomes ``inputs`` [T, C, H, W].

    Args:
        meta_keys: What the data sample keeps of the sample.
    """

    META_KEYS = (
        'events_path',
        'seg_map_path',
        'recording',
        'window',
        't',
        'labelled',
        'continues',
        'ori_shape',
        'img_shape',
        'pad_shape',
        'scale_factor',
        'flip',
        'flip_direction',
    )

    def __init__(self, meta_keys: tuple[str, ...] = META_KEYS) -> None:
        super().__init__(meta_keys=meta_keys)

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        packed['inputs'] = packed['inputs'].unflatten(0, (results['steps'], -1))
        return packed
