"""Any network with weights of few bits, from a config."""

from collections.abc import Sequence

from torch import nn

from mmspike.registry import MODELS

from .layers import set_weight_bits
from .layers.low_bit import LOW_BIT


@MODELS.register_module()
def LowBitModel(  # noqa: N802
    model: dict, bits: int, keep: Sequence[str] | None = None, data_preprocessor: dict | None = None
) -> nn.Module:
    """The network of a model config whose layers compute with weights of few bits; names of its parameters stay.

    A checkpoint of the network with full weights loads into it, and training goes on from there.

    Args:
        model: Config of any model of the hosts.
        bits: 2 to 8, or 1, see :func:`mmspike.models.layers.set_weight_bits`.
        keep: Names of layers or modules that keep full weights; None: the first layer, which sees the image.
        data_preprocessor: That of ``model``, where it has none: mmengine hands on one that stands beside the model.

    Example:
        >>> from mmspike.models.low_bit_model import LowBitModel
        >>> vgg = dict(type='mmspike.SpikingVGG', arch=dict(dims=(4, 6, 8), depths=(2, 1, 1)))
        >>> [type(m).__name__ for m in LowBitModel(vgg, bits=4).modules() if hasattr(m, 'kernel_size') and hasattr(m, 'weight')]
        ['Conv2d', 'LowBitConv2d', 'LowBitConv2d', 'LowBitConv2d']
    """
    if data_preprocessor is not None and model.get('data_preprocessor') is None:
        model = {**model, 'data_preprocessor': data_preprocessor}
    network = MODELS.build(model)
    if keep is None:
        keep = [next(name for name, module in network.named_modules() if type(module) in LOW_BIT)]
    set_weight_bits(network, bits, keep)
    return network
