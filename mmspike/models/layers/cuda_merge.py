"""Rows of equal modules that read the same spikes, such as q, k and v of an attention, as one row on CUDA."""

from collections.abc import Sequence

import torch
from torch import nn

from mmspike.kernels.gpu import layers
from mmspike.kernels.gpu.pack import pack, write_back
from mmspike.kernels.norm_neuron import Neuron
from mmspike.kernels.recompute import Signal

from .low_bit import weight_bits

Parts = Sequence[tuple[nn.Module, str]]


def mergeable(rows: Sequence[Parts]) -> bool:
    """The rows are a 1x1 convolution and a norm each, or a RepConv and a norm, and alike but for their weights."""
    roles = [role for _, role in rows[0]]
    if roles not in (['layer', 'norm'], ['layer', 'repconv', 'layer', 'norm', 'norm']) or len({len(row) for row in rows}) > 1:
        return False
    for column in zip(*rows, strict=True):
        modules, role = [m for m, _ in column], column[0][1]
        if {r for _, r in column} != {role} or len(set(map(type, modules))) > 1:
            return False
        if role == 'layer' and not _pointwise(modules, alike=len(roles) > 2):
            return False
        norms = [m.norm1 if role == 'repconv' else m for m in modules]
        if role != 'layer' and len({(n.eps, n.momentum, n.training) for n in norms}) > 1:
            return False
    return len({p.requires_grad for row in rows for m, _ in row for p in m.parameters()}) == 1


def _pointwise(convs: Sequence[nn.Module], alike: bool) -> bool:
    """1x1 convolutions of the ordinary kind without bias; ``alike``: as wide as each other."""
    for m in convs:
        if type(m) is not nn.Conv2d or weight_bits(m) or m.bias is not None or m.groups > 1:
            return False
        if m.kernel_size != (1, 1) or m.stride != (1, 1) or m.padding != (0, 0):
            return False
    return not alike or len({m.weight.shape for m in convs}) == 1


def merged(rows: Sequence[Parts], neuron: Neuron, signal: Signal) -> Signal:
    """The rows on the tensor of ``signal``, each with the neuron behind it; their outputs are channels side by side."""
    columns = [[m for m, _ in column] for column in zip(*rows, strict=True)]
    rep = len(columns) > 2
    weights, norms = [[m.weight for m in columns[0]]], columns[1:]
    if rep:
        norms = [[m.norm1 for m in columns[1]], *columns[3:]]
        weights += [[m.dwconv.weight for m in columns[1]], [m.weight for m in columns[2]]]
    affine = [[getattr(n, name) for n in row] for row in norms for name in ('weight', 'bias')]
    buffers = [[getattr(n, name) for n in row] for row in norms for name in ('running_mean', 'running_var')]
    dtype, rest = layers.cast_dtype(signal.x.device.type) or weights[0][0].dtype, affine + buffers
    packed = pack(weights + rest, [dtype] * len(weights) + [rest[0][0].dtype] * len(rest))
    kernels, parameters = packed[: len(weights)], packed[len(weights) : len(weights) + len(affine)]
    running = [t.detach() for t in packed[len(weights) + len(affine) :]]
    counter = torch.empty(1, dtype=torch.int64, device=signal.x.device)  # nobody reads it
    wholes = []
    for i, (n, *_) in enumerate(norms):
        (weight, bias), (mean, var) = parameters[2 * i : 2 * i + 2], running[2 * i : 2 * i + 2]
        wholes.append(layers.Norm(weight, bias, [mean, var, counter], n.eps, n.momentum, n.training))
    signal = layers.conv(columns[0][0], signal, kernels[0], None)
    if rep:
        first = columns[1][0]
        signal, bias = layers.bordered_norm(wholes.pop(0), kernels[1], signal, not first.norm2.training)
        signal = layers.conv(first.dwconv, signal, kernels[1], bias, padding=(1, 1), groups=len(kernels[1]))
        signal = layers.conv(columns[2][0], signal, kernels[2], None, groups=len(rows))
    together = len({norm.training for norm in wholes}) == 1
    for norm in () if together else wholes[:-1]:
        signal = layers.norm_neuron([norm], Neuron(), signal)
    signal = layers.norm_neuron(wholes if together else wholes[-1:], neuron, signal)
    moved = [i for i in range(len(running)) if norms[i // 2][0].training]
    if moved:
        write_back([running[i] for i in moved], [buffers[i] for i in moved])
        torch._foreach_add_([n.num_batches_tracked for row in norms for n in row if n.training], 1)
    return signal
