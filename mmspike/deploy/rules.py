"""What :func:`mmspike.deploy.fuse` makes of the blocks of the backbones."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.backbones import meta_spikeformer as v2
from mmspike.models.backbones import saformer, spikformer, spiking_resformer, spiking_vgg
from mmspike.models.backbones import spike_driven_transformer as v1
from mmspike.models.backbones.e_spikeformer import EfficientSpikeSelfAttention, LayerScale
from mmspike.models.backbones.e_spikeformer import SepConv as SepConvV3
from mmspike.models.backbones.e_spikeformer import TransformerBlock as TransformerBlockV3
from mmspike.models.backbones.e_spikeformer_large import (
    LargeTransformerBlock,
    RepPointwise,
    RepSpikeSelfAttention,
    SparseConvBlock,
)
from mmspike.models.backbones.patch_splitting import MembraneEmbedding, PoolConv
from mmspike.models.layers import ConvBlock, RepConvNorm
from mmspike.models.neurons import BaseNeuron

from .folding import (
    affine,
    conv_norm,
    fold_scale,
    merge_repconv,
    norm_affine,
    rescale,
    set_parameters,
    spike_fed,
    unit,
    unit_neuron,
)
from .fuse import fused
from .layers import FusedAggregation, FusedAttention, FusedDualAttention, OverTime, Residual, SumPool


@fused.register
def _(module: RepConvNorm) -> nn.Module:
    return OverTime(conv_norm(merge_repconv(module.rep), module.norm))


@fused.register
def _(module: v2.SepConv) -> nn.Module:
    return nn.Sequential(
        spike_fed(module.neuron1, fused(module.pwconv1)),
        spike_fed(module.neuron2, OverTime(module.dwconv)),
        fused(module.pwconv2),
    )


@fused.register
def _(module: SepConvV3) -> nn.Module:
    return nn.Sequential(
        spike_fed(module.neuron1, fused(module.pwconv1)),
        spike_fed(module.neuron2, fused(module.dwconv)),
        spike_fed(module.neuron3, fused(module.pwconv2)),
    )


@fused.register
def _(module: ConvBlock) -> nn.Module:
    convs = (spike_fed(module.neuron1, fused(module.conv1)), spike_fed(module.neuron2, fused(module.conv2)))
    return Residual(fused(module.sepconv), nn.Sequential(*convs))


@fused.register
def _(module: SparseConvBlock) -> nn.Module:
    convs = (spike_fed(module.neuron1, fused(module.conv1)), spike_fed(module.neuron2, fused(module.conv2)))
    return Residual(nn.Sequential(*convs))


@fused.register
def _(module: RepPointwise) -> nn.Module:
    """1x1 - BN - 1x1 - BN (- norm) as one 1x1 convolution with bias."""
    a1, b1 = norm_affine(module.conv1.norm)
    a2, b2 = norm_affine(module.conv2.norm)
    w1, w2 = (conv.conv.weight.double().flatten(1) for conv in (module.conv1, module.conv2))
    weight, bias = a2[:, None] * (w2 * a1) @ w1, a2 * (w2 @ b1) + b2
    if isinstance(module.norm, _BatchNorm):
        factor, offset = norm_affine(module.norm)
        weight, bias = factor[:, None] * weight, factor * bias + offset
    like = module.conv1.conv.weight
    return OverTime(set_parameters(nn.Conv2d(*weight.shape[::-1], 1), weight[..., None, None], bias, like))


@fused.register
def _(module: LargeTransformerBlock) -> nn.Module:
    first = [] if module.rep_conv is None else [spike_fed(module.rep_neuron, fused(module.rep_conv))]
    return Residual(*first, _scaled(fused(module.attn), module.layer_scale1), _scaled(fused(module.mlp), module.layer_scale2))


@fused.register
def _(module: TransformerBlockV3) -> nn.Module:
    return Residual(
        _scaled(fused(module.sepconv), module.layer_scale1),
        _scaled(fused(module.attn), module.layer_scale2),
        _scaled(fused(module.mlp), module.layer_scale3),
    )


@fused.register(v1.TransformerBlock)
@fused.register(v2.TransformerBlock)
@fused.register(saformer.TransformerBlock)
@fused.register(spikformer.TransformerBlock)
def _(module: nn.Module) -> nn.Module:
    return Residual(fused(module.attn), fused(module.mlp))


@fused.register
def _(module: spiking_resformer.Block) -> nn.Module:
    return Residual(fused(module.attn), fused(module.ffn))


@fused.register
def _(module: spiking_resformer.GroupWiseSpikingFFN) -> nn.Module:
    return nn.Sequential(
        spike_fed(module.neuron1, fused(module.up)),
        Residual(spike_fed(module.neuron2, fused(module.conv))),
        spike_fed(module.neuron3, fused(module.down)),
    )


@fused.register
def _(module: PoolConv) -> nn.Module:
    return spike_fed(module.neuron, fused(module.conv), module.pool)


@fused.register
def _(module: MembraneEmbedding) -> nn.Module:
    return nn.Sequential(module.pool, Residual(spike_fed(module.neuron, fused(module.conv))))


@fused.register
def _(module: spiking_vgg.PooledConv) -> nn.Module:
    conv, pool = fused(module.conv), module.pool
    if isinstance(pool, nn.MaxPool2d):
        return spike_fed(module.neuron, conv, OverTime(pool))
    # the sum of a window, and its division in the weights
    pool = SumPool(pool.kernel_size, pool.stride, pool.padding)
    return spike_fed(module.neuron, rescale(conv, 1 / pool.window), pool)


@fused.register
def _(module: spikformer.SpikeMLP) -> nn.Module:
    # what it sends goes into a shortcut, and keeps its unit
    return nn.Sequential(fused(module.fc1), spike_fed(module.neuron1, fused(module.fc2)), module.neuron2)


@fused.register
def _(module: spikformer.SpikingSelfAttention) -> nn.Module:
    product = unit(module.q_neuron) * unit(module.k_neuron) * unit(module.v_neuron)
    return nn.Sequential(_attention(module, nn.Identity(), product, module.scale), module.proj_neuron)


@fused.register(v2.SpikeDrivenSelfAttention)
@fused.register(EfficientSpikeSelfAttention)
@fused.register(RepSpikeSelfAttention)
def _(module: nn.Module) -> nn.Module:
    q, k, v = (unit(getattr(module, f'{name}_neuron')) for name in 'qkv')
    variant = getattr(module, 'variant', 3)
    if variant == 1:
        return _attention(module, module.neuron, q * k, mask='v')
    scale = 0.5 / module.threshold.item() if variant == 4 else module.scale
    return _attention(module, module.neuron, q * k * v, scale)


@fused.register
def _(module: v1.SpikeDrivenSelfAttention) -> nn.Module:
    return _attention(module, module.neuron, unit(module.k_neuron) * unit(module.v_neuron), mask='q')


def _attention(module: nn.Module, neuron: nn.Module, product: float, scale: float = 1.0, mask: str = '') -> FusedAttention:
    """An attention with q, k and v, of which a spike each makes a ``product``; ``scale`` is that of the sums."""
    q, k, v, attn = (getattr(module, f'{name}_neuron') for name in ('q', 'k', 'v', 'attn'))
    out = unit(attn) * (unit(getattr(module, f'{mask}_neuron')) if mask else 1)
    counted = all(isinstance(n, BaseNeuron) for n in (q, k, v))
    dtype = next(module.parameters()).dtype
    attn, scale = fold_scale(attn, product, scale, dtype) if counted else (unit_neuron(attn), scale * product)
    return FusedAttention(
        neuron=unit_neuron(neuron),
        **{f'{name}_conv': rescale(fused(getattr(module, f'{name}_conv')), unit(neuron)) for name in 'qkv'},
        q_neuron=unit_neuron(q),
        k_neuron=unit_neuron(k),
        v_neuron=unit_neuron(v),
        attn_neuron=attn,
        proj_conv=rescale(fused(module.proj_conv), out),
        num_heads=getattr(module, 'num_heads', 1),
        mask=mask,
        scale=scale,
    )


@fused.register
def _(module: saformer.SpikeAggregatedSelfAttention) -> nn.Module:
    s, q, k, attn = module.neuron, module.q_neuron, module.k_neuron, module.attn_neuron
    passes, left = fold_scale(attn, unit(q), 1.0, next(module.parameters()).dtype)
    return FusedAggregation(
        neuron=unit_neuron(s),
        q_conv=rescale(fused(module.q_conv), unit(s)),
        q_neuron=unit_neuron(q),
        k_conv=rescale(fused(module.k_conv), unit(s)),
        k_neuron=unit_neuron(k),
        attn_neuron=passes,
        dwconv=rescale(fused(module.dwconv), unit(k)),
        out=spike_fed(module.out_neuron, fused(module.proj_conv)),
        num_heads=module.num_heads,
        sum_scale=left,
        scale=unit(attn) * unit(k),
    )


@fused.register
def _(module: spiking_resformer.DualSpikeSelfAttention) -> nn.Module:
    s, attn = module.neuron, module.attn_neuron
    dual = rescale(fused(module.dual_conv), unit(s)).layer
    if isinstance(dual, nn.Sequential):
        raise ValueError(f'DualSpikeSelfAttention is folded with batch norms only, got {dual[1]}')
    running = module.input_rate.running_rate, module.attn_rate.running_rate
    rates = [torch.where(r > 0, r, 1.0).double().flatten() for r in running]
    d = dual.out_channels // (2 * module.num_heads)
    # y1 meets spikes of s, y2 spikes of the attention
    factors = unit(s) * (rates[0] * d).rsqrt(), unit(attn) * rates[1].rsqrt()
    factor = torch.stack(factors, 1).repeat_interleave(d, 1).flatten()
    return FusedDualAttention(
        neuron=unit_neuron(s),
        dual_conv=OverTime(affine(dual, factor)),
        attn_neuron=unit_neuron(attn),
        out=spike_fed(module.out_neuron, fused(module.proj_conv)),
        num_heads=module.num_heads,
        patch_size=module.patch_size,
    )


def _scaled(branch: nn.Module, scale: nn.Module) -> nn.Module:
    """``branch`` with a layer scale folded into its last linear map."""
    if not isinstance(scale, LayerScale):
        return branch
    last = branch[-1] if isinstance(branch, nn.Sequential) else branch
    holder, name = (last, 'proj_conv') if isinstance(last, FusedAttention) else (last, 'linear')
    layer = getattr(holder, name).layer
    if isinstance(layer, nn.Sequential):
        return nn.Sequential(branch, scale)
    setattr(holder, name, OverTime(affine(layer, scale.scale.double())))
    return branch
