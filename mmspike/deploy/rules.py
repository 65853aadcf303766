"""What :func:`mmspike.deploy.fuse` makes of the blocks of the backbones."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from mmspike.models import layers
from mmspike.models.backbones import saformer, spiking_resformer
from mmspike.models.backbones.e_spikeformer_large import RepPointwise
from mmspike.models.layers import Chain, DropPath, LayerScale, RepConv, SpikeAttention
from mmspike.models.layers.chain import takes_time
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

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


@fused.register
def _(module: Chain) -> nn.Module:
    return _row(list(module))


@fused.register
def _(module: layers.Residual) -> nn.Module:
    before, *branches, after = (module.row(names) for names in module.rows)
    residual = Residual(*map(_row, branches))
    return nn.Sequential(*_items(before), residual, *_items(after)) if before or after else residual


def _row(modules: Sequence[nn.Module]) -> nn.Module:
    items = _items(modules)
    return items[0] if len(items) == 1 else nn.Sequential(*items)


def _items(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """A row of modules, folded: neurons with the weights that read them, and what has neither."""
    row = [m for m in _opened(modules) if not isinstance(m, (nn.Identity, DropPath))]
    items: list[nn.Module] = []
    waiting: list[nn.Module] = []  # a neuron, and a pool behind it
    while row:
        m = row.pop(0)
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, RepConv, RepPointwise)):
            conv = merge_repconv(m) if isinstance(m, RepConv) else fused(m).layer if isinstance(m, RepPointwise) else m
            while row and isinstance(row[0], NORMS):
                conv = conv_norm(conv, row.pop(0))
            items.append(_fed(waiting, OverTime(conv)))
            waiting = []
        elif isinstance(m, LayerScale):
            items[-1] = _scaled(items[-1], m)
        elif waiting and isinstance(m, (nn.MaxPool2d, nn.AvgPool2d)):
            waiting.append(m)
        else:
            items += map(_on_time, waiting)
            neuron = takes_time(m) and not m._modules
            waiting = [m] if neuron else []
            items += [] if neuron else [_on_time(fused(m))]
    return items + list(map(_on_time, waiting))


def _opened(modules: Sequence[nn.Module]) -> list[nn.Module]:
    return [
        part for m in modules for part in (_opened(list(m)) if isinstance(m, Chain) and type(m) is not RepPointwise else [m])
    ]


def _on_time(module: nn.Module) -> nn.Module:
    return OverTime(module) if takes_time(module) is False else module


def _fed(waiting: list[nn.Module], layer: OverTime) -> nn.Module:
    """The layer, with the neuron and the pool that it reads, if there are such."""
    if not waiting:
        return layer
    neuron, pool = waiting[0], waiting[1] if len(waiting) > 1 else None
    if isinstance(pool, nn.AvgPool2d):
        # the sum of a window, and its division in the weights
        pool = SumPool(pool.kernel_size, pool.stride, pool.padding)
        return spike_fed(neuron, rescale(layer, 1 / pool.window), pool)
    return spike_fed(neuron, layer, pool and OverTime(pool))


@fused.register
def _(module: RepPointwise) -> OverTime:
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
def _(module: SpikeAttention) -> nn.Module:
    q, k, v = (unit(getattr(module, f'{name}_neuron')) for name in 'qkv')
    product = dict(q=k * v, v=q * k).get(module.mask, q * k * v)
    scale = 1.0 if module.mask else float(module.scale)
    attention = _attention(module, module.neuron or nn.Identity(), product, scale, module.mask)
    # what it sends goes into a shortcut, and keeps its unit
    return attention if module.proj_neuron is None else nn.Sequential(attention, module.proj_neuron)


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
