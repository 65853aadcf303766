"""Norms, re-parameterised convolutions, spike units and scales folded into weights and thresholds.

What is left computes the same function with fewer operations: convolutions that read whole counts of spikes, neurons, sums of
membranes. The result is for inference only.
"""

from collections.abc import Sequence
from copy import copy, deepcopy
from functools import singledispatch

import torch
from mmcv.cnn import ConvModule, fuse_conv_bn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.backbones.e_spikeformer import EfficientSpikeSelfAttention, LayerScale
from mmspike.models.backbones.e_spikeformer import SepConv as SepConvV3
from mmspike.models.backbones.e_spikeformer import TransformerBlock as TransformerBlockV3
from mmspike.models.backbones.e_spikeformer_large import (
    LargeTransformerBlock,
    RepPointwise,
    RepSpikeSelfAttention,
    SparseConvBlock,
)
from mmspike.models.backbones.meta_spikeformer import RepConvNorm, SpikeDrivenSelfAttention
from mmspike.models.backbones.meta_spikeformer import SepConv as SepConvV2
from mmspike.models.backbones.meta_spikeformer import TransformerBlock as TransformerBlockV2
from mmspike.models.layers import (
    MLP,
    ConvBlock,
    ConvNorm,
    Downsample,
    RepConv,
    SpikingConv,
    SpikingConvTranspose,
    SpikingLinear,
)
from mmspike.models.neurons import IF, LIF, PLIF, SFA, BaseNeuron, sfa
from mmspike.utils.optional import is_installed

from .layers import FusedAttention, OverTime, Residual, SpikeFed, ThresholdSFA

# head -> its neurons, each with the layers that read it and that it calls by itself
HEADS: dict[type, Sequence[tuple[str, Sequence[str]]]] = {}
if is_installed('mmdet'):
    from mmspike.models.detection import SpikingConvFCBBoxHead, SpikingFCNMaskHead

    HEADS[SpikingConvFCBBoxHead] = (('neuron_cls', ('fc_cls',)), ('neuron_reg', ('fc_reg',)))
    HEADS[SpikingFCNMaskHead] = (('neuron_logits', ('conv_logits',)),)
if is_installed('mmseg'):
    from mmspike.models.segmentation.decode_head import SpikingDecodeHead

    HEADS[SpikingDecodeHead] = (('neuron_seg', ('conv_seg',)),)
if is_installed('mmpretrain'):
    from mmspike.models.classification import SpikingLinearClsHead

    HEADS[SpikingLinearClsHead] = (('neuron', ('fc', 'fc_kd')),)


def head_readers(module: nn.Module) -> list[tuple[str, list[str]]]:
    """Neurons of a head and the layers of it that read them, by attribute name; [] for what is no head of ours."""
    found = [readers for cls, readers in HEADS.items() if isinstance(module, cls)]
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
    - scales of attention into thresholds of the neuron behind it, layer scales into the branch they scale;
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
        model = fused(deepcopy(model).eval())
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
    """The folded module that replaces ``module``; itself, with its children replaced, for a class without a rule."""
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = fused(child)
    for neuron, readers in head_readers(module):
        unit = _unit(getattr(module, neuron))
        setattr(module, neuron, _unit_neuron(getattr(module, neuron)))
        for reader in readers:
            setattr(module, reader, _affine(getattr(module, reader), in_scale=unit))
    if getattr(module, 'fc_kd', None) is not None:
        module.fc = _mean_of(module.fc, module.fc_kd)
        module.fc_kd = None
    return module


@fused.register
def _(module: ConvModule) -> nn.Module:
    plain = module.order[:2] == ('conv', 'norm') and type(module.conv) is nn.Conv2d
    if plain and module.with_norm and isinstance(module.norm, _BatchNorm) and module.norm.affine:
        fuse_conv_bn(module)
    return module


@fused.register
def _(module: ConvNorm) -> nn.Module:
    return OverTime(_conv_norm(module.conv, module.norm))


@fused.register
def _(module: RepConv) -> nn.Module:
    return OverTime(merge_repconv(module))


@fused.register
def _(module: RepConvNorm) -> nn.Module:
    return OverTime(_conv_norm(merge_repconv(module.rep), module.norm))


@fused.register(SpikingConv)
@fused.register(SpikingConvTranspose)
def _(module: nn.Module) -> nn.Module:
    return _spike_fed(module.neuron, OverTime(_conv_norm(module.conv, module.norm)))


@fused.register
def _(module: SpikingLinear) -> nn.Module:
    return _spike_fed(module.neuron, OverTime(_conv_norm(module.fc, module.norm)))


@fused.register
def _(module: Downsample) -> nn.Module:
    conv = fused(module.conv)
    return conv if isinstance(module.neuron, nn.Identity) else _spike_fed(module.neuron, conv)


@fused.register
def _(module: MLP) -> nn.Module:
    return nn.Sequential(_spike_fed(module.neuron1, fused(module.fc1)), _spike_fed(module.neuron2, fused(module.fc2)))


@fused.register
def _(module: SepConvV2) -> nn.Module:
    return nn.Sequential(
        _spike_fed(module.neuron1, fused(module.pwconv1)),
        _spike_fed(module.neuron2, OverTime(module.dwconv)),
        fused(module.pwconv2),
    )


@fused.register
def _(module: SepConvV3) -> nn.Module:
    return nn.Sequential(
        _spike_fed(module.neuron1, fused(module.pwconv1)),
        _spike_fed(module.neuron2, fused(module.dwconv)),
        _spike_fed(module.neuron3, fused(module.pwconv2)),
    )


@fused.register
def _(module: ConvBlock) -> nn.Module:
    convs = (_spike_fed(module.neuron1, fused(module.conv1)), _spike_fed(module.neuron2, fused(module.conv2)))
    return Residual(fused(module.sepconv), nn.Sequential(*convs))


@fused.register
def _(module: SparseConvBlock) -> nn.Module:
    convs = (_spike_fed(module.neuron1, fused(module.conv1)), _spike_fed(module.neuron2, fused(module.conv2)))
    return Residual(nn.Sequential(*convs))


@fused.register
def _(module: RepPointwise) -> nn.Module:
    return OverTime(merge_pointwise(module))


@fused.register
def _(module: LargeTransformerBlock) -> nn.Module:
    first = [] if module.rep_conv is None else [_spike_fed(module.rep_neuron, fused(module.rep_conv))]
    return Residual(*first, _scaled(fused(module.attn), module.layer_scale1), _scaled(fused(module.mlp), module.layer_scale2))


@fused.register
def _(module: TransformerBlockV2) -> nn.Module:
    return Residual(fused(module.attn), fused(module.mlp))


@fused.register
def _(module: TransformerBlockV3) -> nn.Module:
    return Residual(
        _scaled(fused(module.sepconv), module.layer_scale1),
        _scaled(fused(module.attn), module.layer_scale2),
        _scaled(fused(module.mlp), module.layer_scale3),
    )


@fused.register(SpikeDrivenSelfAttention)
@fused.register(EfficientSpikeSelfAttention)
@fused.register(RepSpikeSelfAttention)
def _(module: nn.Module) -> nn.Module:
    variant = getattr(module, 'variant', 3)
    s, q, k, v, attn = (getattr(module, f'{name}neuron') for name in ('', 'q_', 'k_', 'v_', 'attn_'))
    if variant == 4:
        scale = 0.5 / module.threshold.item()
    else:
        scale = 1.0 if variant == 1 else module.scale
    if variant == 1:
        product, out = _unit(q) * _unit(k), _unit(v) * _unit(attn)
    else:
        product, out = _unit(q) * _unit(k) * _unit(v), _unit(attn)
    counted = all(isinstance(n, BaseNeuron) for n in (q, k, v))
    dtype = next(module.parameters()).dtype
    neuron, scale = _fold_scale(attn, product, scale, dtype) if counted else (_unit_neuron(attn), scale * product)
    convs = {name: _rescale(fused(getattr(module, name)), _unit(s)) for name in ('q_conv', 'k_conv', 'v_conv')}
    return FusedAttention(
        neuron=_unit_neuron(s),
        **convs,
        q_neuron=_unit_neuron(q),
        k_neuron=_unit_neuron(k),
        v_neuron=_unit_neuron(v),
        attn_neuron=neuron,
        proj_conv=_rescale(fused(module.proj_conv), out),
        num_heads=module.num_heads,
        mask=variant == 1,
        scale=scale,
    )


def merge_repconv(module: RepConv) -> nn.Conv2d:
    """RepConv as one 3x3 convolution with zero padding and bias, which it equals at the borders, too."""
    a1, b1 = _norm_affine(module.norm1)
    a2, b2 = _norm_affine(module.norm2)
    w1, w2 = module.conv1.weight.double().flatten(1), module.conv2.weight.double().flatten(1)
    dw = module.dwconv.weight.double().squeeze(1)
    weight = torch.einsum('o,om,mhw,m,mi->oihw', a2, w2, dw, a1, w1)
    bias = a2 * (w2 @ (b1 * dw.sum((1, 2)))) + b2
    c = w1.shape[0]
    return _set(nn.Conv2d(c, c, 3, padding=1), weight, bias, module.conv1.weight)


def merge_pointwise(module: RepPointwise) -> nn.Conv2d:
    """RepPointwise as one 1x1 convolution with bias."""
    a1, b1 = _norm_affine(module.conv1.norm)
    a2, b2 = _norm_affine(module.conv2.norm)
    w1, w2 = (conv.conv.weight.double().flatten(1) for conv in (module.conv1, module.conv2))
    weight, bias = a2[:, None] * (w2 * a1) @ w1, a2 * (w2 @ b1) + b2
    if isinstance(module.norm, _BatchNorm):
        factor, offset = _norm_affine(module.norm)
        weight, bias = factor[:, None] * weight, factor * bias + offset
    like = module.conv1.conv.weight
    return _set(nn.Conv2d(*weight.shape[::-1], 1), weight[..., None, None], bias, like)


def _set(layer: nn.Module, weight: Tensor, bias: Tensor | None, like: Tensor) -> nn.Module:
    layer.weight = nn.Parameter(weight.to(like))
    layer.bias = None if bias is None else nn.Parameter(bias.to(like))
    return layer


def _norm_affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Factor and offset that a batch norm applies in evaluation, float64."""
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    offset = -norm.running_mean.double() * factor
    return factor, offset if norm.bias is None else offset + norm.bias.double()


def _affine(layer: nn.Module, factor: Tensor | None = None, offset: Tensor | None = None, in_scale: float = 1.0) -> nn.Module:
    """A copy of a convolution or linear layer on ``in_scale`` times the input, its output times ``factor`` plus ``offset``."""
    if factor is None and in_scale == 1:
        return layer
    w = layer.weight.double() * in_scale
    bias = None if layer.bias is None else layer.bias.double()
    if factor is not None:
        if isinstance(layer, nn.ConvTranspose2d):  # [in, out / groups, …]
            groups = factor.view(layer.groups, 1, -1, 1, 1)
            w = (w.view(layer.groups, -1, *w.shape[1:]) * groups).view_as(w)
        else:
            w = w * factor.view(-1, *[1] * (w.dim() - 1))
        bias = None if bias is None else bias * factor
    if offset is not None:
        bias = offset if bias is None else bias + offset
    return _set(copy_layer(layer), w, bias, layer.weight)


def copy_layer(layer: nn.Module) -> nn.Module:
    """A shallow copy whose parameters can be replaced without changing ``layer``."""
    new = copy(layer)
    new._parameters = dict(layer._parameters)
    return new


def _conv_norm(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """One layer for both where the norm is a batch norm with running statistics."""
    if isinstance(norm, nn.Identity):
        return conv
    if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
        return _affine(conv, *_norm_affine(norm))
    return nn.Sequential(conv, norm)


def _unit(neuron: nn.Module) -> float:
    """Value of one spike."""
    return 1.0 / getattr(neuron, 'norm', 1) if isinstance(neuron, BaseNeuron) else 1.0


def _unit_neuron(neuron: nn.Module) -> nn.Module:
    """The neuron with spikes of 1."""
    if _unit(neuron) == 1:
        return neuron
    neuron = copy(neuron)
    neuron.norm = 1
    return neuron


def _rescale(layer: OverTime, in_scale: float) -> OverTime:
    inner = layer.layer
    if isinstance(inner, nn.Sequential):  # a convolution and a norm that stays
        return OverTime(nn.Sequential(_affine(inner[0], in_scale=in_scale), *inner[1:]))
    return OverTime(_affine(inner, in_scale=in_scale))


def _spike_fed(neuron: nn.Module, layer: OverTime) -> SpikeFed:
    return SpikeFed(_unit_neuron(neuron), _rescale(layer, _unit(neuron)))


def _scaled(branch: nn.Module, scale: nn.Module) -> nn.Module:
    """``branch`` with a layer scale folded into its last linear map."""
    if not isinstance(scale, LayerScale):
        return branch
    last = branch[-1] if isinstance(branch, nn.Sequential) else branch
    holder, name = (last, 'proj_conv') if isinstance(last, FusedAttention) else (last, 'linear')
    layer = getattr(holder, name).layer
    if isinstance(layer, nn.Sequential):
        return nn.Sequential(branch, scale)
    setattr(holder, name, OverTime(_affine(layer, scale.scale.double())))
    return branch


def _fold_scale(neuron: nn.Module, unit: float, scale: float, dtype: torch.dtype) -> tuple[nn.Module, float]:
    """The neuron on whole numbers y that does what ``neuron`` does on y * unit * scale, and the scale that is left."""
    if unit * scale == 1:
        return _unit_neuron(neuron), 1.0
    if type(neuron) is SFA:
        thresholds = []
        for k in range(1, neuron.levels + 1):
            near = int((k - 0.5) / (unit * scale))
            y = torch.arange(max(near - 2, 0), near + 4, dtype=dtype)
            # with the network's own arithmetic, so that halves are rounded alike
            thresholds.append(y[sfa(y * unit * scale, neuron.levels, 1, neuron.rounding) >= k].min())
        return ThresholdSFA(torch.stack(thresholds)), 1.0
    if isinstance(neuron, (LIF, PLIF, IF)) and neuron.v_reset == 0:
        # charge and decay are linear: a scaled input and a scaled threshold give the same spikes
        neuron = copy(neuron)
        neuron.v_threshold = neuron.v_threshold / (unit * scale)
        return neuron, 1.0
    return _unit_neuron(neuron), unit * scale


def _mean_of(a: nn.Linear, b: nn.Linear) -> nn.Linear:
    weight = (a.weight.double() + b.weight.double()) / 2
    return _set(copy_layer(a), weight, (a.bias.double() + b.bias.double()) / 2, a.weight)


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
    chain[-2].linear = OverTime(_set(merged, weight, bias, dw.weight))
    del chain[-1]
