"""Neurons, convolutions and norms one after the other, on the quickest way there is."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .conv import ConvNorm, RepConv, RepConvNorm
from .fused import (
    count_norm,
    fusable,
    fusable_conv,
    fusable_neuron,
    fusable_norm,
    hooked,
    norm_neuron,
    spike_attention,
    spike_conv,
    takes_counts,
)
from .temporal import fold, unfold


def chain(x: Tensor, *modules: nn.Module, spikes_of: nn.Module | None = None) -> Tensor:
    """The modules in order, as ``nn.Sequential`` would run them, with less memory and time where that is possible.

    On the CPU in float32 and float64, norms are fused with the neurons behind them and spikes are saved as bytes. With hooks
    on a module, under autocast, compilation or tracing, and everywhere else, the modules are simply called.

    Args:
        x: [T, B, C, H, W].
        modules: Neurons, ``nn.Conv2d``, :class:`ConvNorm`, :class:`RepConvNorm`.
        spikes_of: The neuron that ``x`` is the output of, if it is.
    """
    parts = [part for m in modules for part in _parts(m)]
    if not fusable(x, *modules, *(m for part in parts for m in part.modules())):
        for m in modules:
            x = _call(m, x)
        return x
    # of the counts that x holds; None: x is no spikes
    norm = None if spikes_of is None or hooked(spikes_of) else count_norm(spikes_of)
    i, counts, origin = 0, None, None
    while i < len(parts):
        m = parts[i]
        i += 1
        if isinstance(m, RepConv):
            x, _, origin = norm_neuron([m.norm1], nn.Identity(), x, offset=m.border, origin=origin)
            bias = m.border() * m.dwconv.weight.sum((1, 2, 3))
            x, origin = spike_conv(m.dwconv, x, None, origin=origin, bias=bias, padding=(1, 1))
        elif fusable_norm(m):
            norms = [m]
            if i < len(parts) and fusable_norm(parts[i]) and parts[i].training == m.training:
                norms.append(parts[i])
                i += 1
            neuron = nn.Identity()
            if i < len(parts) and fusable_neuron(parts[i]):
                neuron = parts[i]
                i += 1
            norm = count_norm(neuron)
            count = norm is not None and i < len(parts) and takes_counts(parts[i], x)
            x, counts, origin = norm_neuron(norms, neuron, x, origin=origin, count=count)
        elif fusable_conv(m):
            x, origin = spike_conv(m, x, norm, counts, origin)
            norm = counts = None
        else:
            x, norm, counts, origin = _call(m, x), count_norm(m), None, None
    return x


def _parts(module: nn.Module) -> list[nn.Module]:
    """A module as a row of others; a :class:`RepConv` among them stands for its first norm and depthwise convolution."""
    if type(module) is ConvNorm and fusable_norm(module.norm):
        return [module.conv, module.norm]
    if type(module) is RepConvNorm and fusable_norm(module.rep.norm1):
        rep = module.rep
        return [rep.conv1, rep, rep.conv2, rep.norm2, module.norm]
    return [module]


def _call(module: nn.Module, x: Tensor) -> Tensor:
    """One that works on [T*B, C, H, W], or one of ours, on [T, B, C, H, W]."""
    if isinstance(module, (nn.Conv2d, _BatchNorm)):
        return unfold(module(fold(x)), x.shape[0])
    return module(x)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, *neurons: nn.Module) -> Tensor:
    """Attention without softmax, q (k^T v) for every head, linear in the number of tokens.

    Args:
        q, k: [T, B, C, H, W], spikes.
        v: [T, B, C_v, H, W], spikes.
        heads: Number of heads; channels are dealt out to them in order.
        neurons: The neurons of q, k and v, which are of one kind.

    Returns:
        [T, B, C_v, H, W].
    """
    norm = count_norm(neurons[0])
    if norm is not None and torch.is_grad_enabled() and fusable(q, *neurons):
        return spike_attention(q, k, v, heads, norm)
    # heads are [d, N] here: q (k^T v) is the transpose of (v k^T) q
    q, k, heads_v = (x.unflatten(2, (heads, -1)).flatten(-2) for x in (q, k, v))
    return ((heads_v @ k.transpose(-2, -1)) @ q).reshape(v.shape)
