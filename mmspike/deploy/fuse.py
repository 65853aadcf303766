"""Norms, re-parameterised convolutions, spike units and scales folded into weights and thresholds.

What is left computes the same function with fewer operations: convolutions that read whole counts of spikes, neurons, sums of
membranes. The result is for inference only.
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import singledispatch

import torch
from mmcv.cnn import ConvModule, fuse_conv_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.backbones.spikeformer import SEWOutput
from mmspike.models.backbones.spikeformer import TransformerBlock as SpikeformerBlock
from mmspike.models.layers import RepConv, write_binary_weights
from mmspike.models.neurons import BaseNeuron
from mmspike.utils.optional import is_installed

from .folding import mean_of, merge_repconv, rescale, set_parameters, unit, unit_neuron
from .layers import OverTime, SpikeFed

# class -> its neurons, each with the layers that alone read it and that the class calls by itself
READERS: dict[type, Sequence[tuple[str, Sequence[str]]]] = {
    SEWOutput: (('neuron1', ('conv',)),),
    SpikeformerBlock: (('neuron', ('fc2',)),),
}
if is_installed('mmdet'):
    from mmspike.models.detection import SpikingConvFCBBoxHead, SpikingFCNMaskHead

    READERS[SpikingConvFCBBoxHead] = (('neuron_cls', ('fc_cls',)), ('neuron_reg', ('fc_reg',)))
    READERS[SpikingFCNMaskHead] = (('neuron_logits', ('conv_logits',)),)
if is_installed('mmseg'):
    from mmspike.models.segmentation.decode_head import SpikingDecodeHead

    READERS[SpikingDecodeHead] = (('neuron_seg', ('conv_seg',)),)
if is_installed('mmpretrain'):
    from mmspike.models.classification import SpikingLinearClsHead

    READERS[SpikingLinearClsHead] = (('neuron', ('fc', 'fc_kd')),)


def readers_of(module: nn.Module) -> list[tuple[str, list[str]]]:
    """Neurons of a module and the layers of it that read them, by attribute name; [] for a class that is not in the table."""
    found = [readers for cls, readers in READERS.items() if isinstance(module, cls)]
    return [
        (neuron, [r for r in names if getattr(module, r, None) is not None])
        for readers in found
        for neuron, names in readers
        if hasattr(module, neuron)
    ]


def fuse(model: nn.Module, merge_depthwise: bool = True) -> nn.Module:
    """A copy of ``model`` for inference, with everything folded that can be.

    - batch norms into the convolution or linear layer before them, RepConv into one 3x3 convolution;
    - the 1 / Norm of neurons into the weights that read them: spikes are then whole counts;
    - scales of attention into thresholds of the neuron behind it or into weights, layer scales into the branch they scale;
    - the division of average pools of spikes into the weights behind them: they only add;
    - weights of one bit are written out;
    - the distillation output of a classifier into the other one, whose mean is the prediction.

    It equals ``model`` but for rounding. Rounding can move a membrane across a threshold, though, and trained networks amplify
    that spike: in float32, about one in ten million spikes flips by itself, and everything behind it differs a little. In
    float64 none does.

    Args:
        model: A backbone, neck, head or whole model. Modules that are none of ours stay as they are, but for convolutions
            and batch norms in mmcv's ``ConvModule``.
        merge_depthwise: Merge the depthwise and the pointwise convolution of Meta-SpikeFormer's SepConv, between which no
            neuron stands, into one dense convolution: all its inputs are spikes then, and it has more weights. False leaves
            both, and the second reads floats.
    """
    with torch.no_grad():
        model = deepcopy(model).eval()
        write_binary_weights(model)
        model = fused(model)
        if merge_depthwise:
            for module in list(model.modules()):
                if isinstance(module, nn.Sequential):
                    _merge_depthwise(module)
    return model.eval().requires_grad_(False)


def leftovers(model: nn.Module) -> list[str]:
    """What :func:`fuse` could not fold: names of norms and of neurons whose spikes are not 1."""
    kinds = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)
    return [
        f'{name} ({type(m).__name__})'
        for name, m in model.named_modules()
        if isinstance(m, kinds) or (isinstance(m, BaseNeuron) and getattr(m, 'norm', 1) != 1)
    ]


@singledispatch
def fused(module: nn.Module) -> nn.Module:
    """The folded module that replaces ``module``; itself, with its children replaced, for a class without a rule.

    Rules for the blocks of backbones are in :mod:`mmspike.deploy.rules`.
    """
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = fused(child)
    for neuron, readers in readers_of(module):
        spike = unit(getattr(module, neuron))
        setattr(module, neuron, unit_neuron(getattr(module, neuron)))
        for reader in readers:
            setattr(module, reader, rescale(getattr(module, reader), spike))
    if getattr(module, 'fc_kd', None) is not None:
        module.fc = mean_of(module.fc, module.fc_kd)
        module.fc_kd = None
    return module


@fused.register
def _(module: ConvModule) -> nn.Module:
    plain = module.order[:2] == ('conv', 'norm') and type(module.conv) is nn.Conv2d
    if plain and module.with_norm and isinstance(module.norm, _BatchNorm) and module.norm.affine:
        fuse_conv_bn(module)
    return module


@fused.register
def _(module: RepConv) -> nn.Module:
    return OverTime(merge_repconv(module))


def _merge_depthwise(chain: nn.Sequential) -> None:
    """Merge [neuron - depthwise, pointwise without a neuron] at the end of ``chain`` into one dense convolution, in place."""
    if len(chain) < 2 or not (isinstance(chain[-2], SpikeFed) and isinstance(chain[-1], OverTime)):
        return
    dw, pw = chain[-2].linear.layer, chain[-1].layer
    if not (isinstance(dw, nn.Conv2d) and isinstance(pw, nn.Conv2d)):
        return
    if dw.groups != dw.in_channels or dw.out_channels != dw.in_channels or pw.kernel_size != (1, 1) or pw.groups != 1:
        return
    w_pw = pw.weight.double().flatten(1)
    weight = w_pw[:, :, None, None] * dw.weight.double().squeeze(1)
    bias = None if pw.bias is None else pw.bias.double()
    if dw.bias is not None:
        bias = w_pw @ dw.bias.double() + (0 if bias is None else bias)
    merged = nn.Conv2d(dw.in_channels, pw.out_channels, dw.kernel_size, dw.stride, dw.padding, dw.dilation)
    chain[-2].linear = OverTime(set_parameters(merged, weight, bias, dw.weight))
    del chain[-1]
