"""From frames to the network's input. Needs mmpretrain."""

from mmpretrain.datasets.transforms import PackInputs

from mmspike.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackEvents(PackInputs):
    """mmpretrain's ``PackInputs`` for frames of events: ``img`` [H, W, 2 T] becomes ``inputs`` [T, 2, H, W].

    Args:
        meta_keys: What the data sample keeps of the recording.
    """

    META_KEYS = ('sample_idx', 'events_path', 'interval', 'sensor_size', 'img_shape', 'flip', 'flip_direction')

    def __init__(self, meta_keys: tuple[str, ...] = META_KEYS) -> None:
        super().__init__(meta_keys=meta_keys)

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        packed['inputs'] = packed['inputs'].unflatten(0, (-1, 2))
        return packed
