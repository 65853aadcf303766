"""Rows of equal modules that read the same spikes, such as q, k and v of an attention, as one row on CUDA."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


@dataclass
class Merged:
    """Rows whose layers run side by side.

    Attributes:
        columns: The modules at each place of the rows.
        weights: Of the convolutions.
        norms: The norms side by side, of packed parameters and statistics.
        used: How often they have run.
    """

    columns: list[list[nn.Module]]
    weights: list[Tensor]
    norms: list[layers.Norm]
    used: int = 0

    def run(self, neuron: Neuron, signal: Signal) -> Signal:
        """The rows on the tensor of ``signal``, each with the neuron behind it; their outputs are channels side by side."""
        self.used += 1
        columns, norms = self.columns, list(self.norms)
        signal = layers.conv(columns[0][0], signal, self.weights[0], None)
        if len(columns) > 2:
            first, (_, depthwise, last) = columns[1][0], self.weights
            signal, bias = layers.bordered_norm(norms.pop(0), depthwise, signal, not first.norm2.training)
            signal = layers.conv(first.dwconv, signal, depthwise, bias, padding=(1, 1), groups=len(depthwise))
            signal = layers.conv(columns[2][0], signal, last, None, groups=len(columns[0]))
        together = len({norm.training for norm in norms}) == 1
        for norm in () if together else norms[:-1]:
            signal = layers.norm_neuron([norm], Neuron(), signal)
        return layers.norm_neuron(norms if together else norms[-1:], neuron, signal)


def _norms(columns: list[list[nn.Module]]) -> list[list[nn.Module]]:
    return columns[1:] if len(columns) == 2 else [[m.norm1 for m in columns[1]], *columns[3:]]


def merge(groups: Sequence[Sequence[Parts]], device: str) -> list[Merged]:
    """The rows of each group side by side, where they are :func:`mergeable`; all parameters are packed together."""
    found, tensors, dtypes = [], [], []
    for rows in groups:
        columns = [[m for m, _ in column] for column in zip(*rows, strict=True)]
        weights = [[m.weight for m in columns[0]]]
        if len(columns) > 2:
            weights += [[m.dwconv.weight for m in columns[1]], [m.weight for m in columns[2]]]
        names = ('weight', 'bias', 'running_mean', 'running_var')
        rest = [[getattr(m, name) for m in norm] for norm in _norms(columns) for name in names]
        dtype = layers.cast_dtype(device) or weights[0][0].dtype
        tensors += weights + rest
        dtypes += [dtype] * len(weights) + [rest[0][0].dtype] * len(rest)
        found.append((columns, len(weights)))
    packed = iter(pack(tensors, dtypes) if tensors else ())
    merged = []
    for columns, count in found:
        kernels, norms = [next(packed) for _ in range(count)], []
        for first, *_ in _norms(columns):
            weight, bias, mean, var = (next(packed) for _ in range(4))
            counter = torch.empty(1, dtype=torch.int64, device=device)  # nobody reads it
            running = [mean.detach(), var.detach(), counter]
            norms.append(layers.Norm(weight, bias, running, first.eps, first.momentum, first.training))
        merged.append(Merged(columns, kernels, norms))
    return merged


def keep_statistics(merged: Iterable[Merged]) -> None:
    """Write what the norms of merged rows have learned into their modules."""
    pairs = [(m.used, *pair) for m in merged if m.used for pair in zip(m.norms, _norms(m.columns), strict=True)]
    pairs = [(used, norm, modules) for used, norm, modules in pairs if norm.training]
    if pairs:
        buffers = [[getattr(m, name) for m in modules] for *_, modules in pairs for name in ('running_mean', 'running_var')]
        write_back([t for _, norm, _ in pairs for t in norm.running[:2]], buffers)
        counts = [(m.num_batches_tracked, used) for used, _, modules in pairs for m in modules]
        torch._foreach_add_(*map(list, zip(*counts, strict=True)))
