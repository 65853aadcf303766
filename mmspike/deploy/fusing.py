"""Norms, re-parameterised convolutions, spike units and scales folded into weights and thresholds.

What is left computes the same function with fewer operations: convolutions that read whole counts of spikes, neurons, sums of
membranes. Modules keep their names; those that are folded into others become identities. The result is for inference only.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial, singledispatch
from typing import Any

import torch
from mmcv.cnn import ConvModule, fuse_conv_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.backbones.saformer import SpikeAggregatedSelfAttention
from mmspike.models.backbones.spiking_resformer import DualSpikeSelfAttention
from mmspike.models.layers import MERGING, Chain, LayerScale, NormFirstRepConv, RepConv, SpikeAttention, write_low_bit_weights
from mmspike.models.mask_former import DeformableSampling, MaskProduct, QueryAttention
from mmspike.models.neurons import BaseNeuron

from .attention import FusedAggregation, FusedAttention, FusedDualAttention, FusedQueryAttention
from .folding import affine, joined, mean_of, merge_depthwise, merge_repconv, set_parameters, unit, unit_neuron
from .masks import FusedMaskProduct, FusedSampling
from .rows import LINEAR, Place, names_of, places, reader_of, rows_of, window_of


def fuse(model: nn.Module, merge_depthwise: bool = True) -> nn.Module:
    """A copy of ``model`` for inference, with everything folded that can be.

    - batch norms into the convolution or linear layer before them, RepConv and NormFirstRepConv into one 3x3 convolution;
    - the divisors of neurons into the weights that read them: spikes are then whole counts;
    - scales of attention into thresholds of the neuron behind it or into weights, layer scales into the branch they scale;
    - the division of average pools of spikes into the weights behind them: they only add;
    - two 1x1 convolutions without a neuron between them into one;
    - weights of few bits are written out, rounded;
    - the distillation output of a classifier into the other one, whose mean is the prediction.

    It equals ``model`` but for rounding. Rounding can move a membrane across a threshold, though, and trained networks amplify
    that spike: in float32, about one in ten million spikes flips by itself, and everything behind it differs a little. In
    float64 none does.

    Args:
        model: A backbone, neck, head or whole model. Folded are the rows of every :class:`mmspike.models.layers.Chain` and of
            every module that names its own (``rows``). Modules that are none of ours stay as they are, but for convolutions
            and batch norms in mmcv's ``ConvModule``.
        merge_depthwise: Merge the depthwise and the pointwise convolution of Meta-SpikeFormer's SepConv, between which no
            neuron stands, into one dense convolution: all its inputs are spikes then, and it has more weights. False leaves
            both, and the second reads floats.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import SpikingConv
        >>> block = SpikingConv(8, 16, 3, neuron=dict(type='SFA', levels=4), norm_cfg=dict(type='BN')).eval()
        >>> network = fuse(block)
        >>> network.neuron.divisor, network.norm
        (1, Identity())
        >>> x = torch.randn(1, 2, 8, 10, 10)
        >>> torch.allclose(network(x), block(x), atol=1e-5)
        True
    """
    with torch.no_grad():
        model = deepcopy(model).eval()
        write_low_bit_weights(model)
        model = fused(model)
        if merge_depthwise:
            for module in model.modules():
                for row in rows_of(module):
                    _merge_depthwise(row)
    return model.eval().requires_grad_(False)


def leftovers(model: nn.Module) -> list[str]:
    """Names of norms that :func:`fuse` could not fold, and of neurons whose spikes are not 1.

    Example:
        >>> from mmspike.deploy import fuse, leftovers
        >>> from mmspike.models.layers import SpikingConv
        >>> block = SpikingConv(8, 16, 3, neuron=dict(type='LIF'), norm_cfg=dict(type='GN', num_groups=4))
        >>> leftovers(fuse(block))
        ['norm (GroupNorm)']
    """
    norms = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
    return [
        f'{name} ({type(m).__name__})'
        for name, m in model.named_modules()
        if isinstance(m, norms) or (isinstance(m, BaseNeuron) and getattr(m, 'divisor', 1) != 1)
    ]


@singledispatch
def fused(module: nn.Module) -> nn.Module:
    """The folded module that replaces ``module``: itself with its children folded and its rows, but for special classes."""
    if getattr(module, 'fc_kd', None) is not None:
        module.fc = mean_of(module.fc, module.fc_kd)
        module.fc_kd = None
    in_rows = module._modules if isinstance(module, Chain) else [n for names in names_of(module) for n in names]
    for name, child in module._modules.items():
        if child is not None and name not in in_rows:
            module._modules[name] = fused(child)
    for row in rows_of(module):
        for place in row:
            if not isinstance(place.module, MERGING):  # which is folded together with the norm behind it
                place.put(fused(place.module))
        fold(row)
    return module


def fold(row: Sequence[Place]) -> None:
    """Fold a row, in place: what follows a linear map into it, and the value of spikes into the linear map that reads them."""
    spike, fed, i = 1.0, False, 0  # fed: by a neuron whose spikes a linear map reads
    while i < len(row):
        place, m = row[i], row[i].module
        i += 1
        if isinstance(m, (*LINEAR, *MERGING)):
            like = next(m.parameters())
            layer = affine(merge_repconv(m) if isinstance(m, MERGING) else m, in_scale=spike)
            while i < len(row) and (both := joined(layer, row[i].module)) is not None:
                layer = both
                row[i].put(nn.Identity())
                i += 1
            place.put(set_parameters(layer, layer.weight, layer.bias, like))
            spike, fed = 1.0, False
        elif isinstance(m, BaseNeuron) and reader_of(row[i:]) is not None:
            spike = unit(m)
            place.put(unit_neuron(m))
            fed = True
        elif isinstance(m, nn.AvgPool2d) and fed:
            # the sum of a window, and its division in the weights
            spike /= m.divisor_override or window_of(m)
            place.put(nn.AvgPool2d(m.kernel_size, m.stride, m.padding, divisor_override=1))
        elif isinstance(m, LayerScale) and i > 1 and isinstance(row[i - 2].module, FusedAttention):
            last = places(row[i - 2].module, ('proj_conv', 'proj_neuron'))[-1]
            if isinstance(last.module, LINEAR):
                last.put(affine(last.module, m.scale.double(), like=last.module.weight))
                place.put(nn.Identity())


def _merge_depthwise(row: Sequence[Place]) -> None:
    """Merge depthwise convolutions that read spikes with the pointwise ones behind them into dense ones, in place."""
    for neuron, depthwise, pointwise in zip(row, row[1:], row[2:], strict=False):
        if isinstance(neuron.module, BaseNeuron):
            both = merge_depthwise(depthwise.module, pointwise.module)
            if both is not None:
                depthwise.put(both)
                pointwise.put(nn.Identity())


@fused.register
def _fuse_conv_module(module: ConvModule) -> nn.Module:
    """mmcv's convolution, norm and activation, which have a method of mmcv's."""
    plain = module.order[:2] == ('conv', 'norm') and type(module.conv) is nn.Conv2d
    if plain and module.with_norm and isinstance(module.norm, _BatchNorm) and module.norm.affine:
        fuse_conv_bn(module)
    return module


@fused.register(RepConv)
@fused.register(NormFirstRepConv)
def _fuse_repconv(module: RepConv | NormFirstRepConv) -> nn.Module:
    """Alone. Its depthwise convolution is padded with what its norm gives for 0, so that no row says what it computes."""
    layer = merge_repconv(module)
    return Chain(conv=set_parameters(layer, layer.weight, layer.bias, module.conv1.weight))


#: products of spikes, whose scale goes into a threshold or into weights
PRODUCTS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    SpikeAttention: FusedAttention,
    QueryAttention: FusedQueryAttention,
    SpikeAggregatedSelfAttention: FusedAggregation,
    DualSpikeSelfAttention: FusedDualAttention,
    DeformableSampling: FusedSampling,
    MaskProduct: FusedMaskProduct,
}


def _fuse_product(new: Callable[[Any], nn.Module], module: nn.Module) -> nn.Module:
    module._modules.update({name: fused(child) for name, child in module._modules.items() if child is not None})
    return new(module)


for _trained, _new in PRODUCTS.items():
    fused.register(_trained, partial(_fuse_product, _new))
