"""From frames of events with boxes to the input of mmdet's models. Needs mmdet."""

from mmdet.datasets.transforms import PackDetInputs

from mmspike.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackEventDetInputs(PackDetInputs):
    """mmdet's ``PackDetInputs`` for frames of events: ``img`` [H, W, T C] becomes ``inputs`` [T, C, H, W].

    Args:
        meta_keys: What the data sample keeps of the sample.
    """

    META_KEYS = (
        'img_id',
        'events_path',
        'recording',
        'window',
        't',
        'labelled',
        'continues',
        'boxes',
        'ori_shape',
        'img_shape',
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
