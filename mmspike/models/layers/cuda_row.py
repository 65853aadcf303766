"""A row of modules on CUDA: norms fused with shortcuts and neurons, weights cast together, spikes computed anew going back."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmspike.kernels.gpu import layers
from mmspike.kernels.gpu.shortcut import norm_sum_neuron
from mmspike.kernels.norm_neuron import Neuron
from mmspike.kernels.pools import spike_pool
from mmspike.kernels.recompute import Signal

from .choice import add, count_divisor, described, fire, norms_and_neuron, several
from .cuda_merge import Merged, keep_statistics, merge
from .low_bit import used_weight, weight_bits


def walk_on_cuda(parts: list[tuple[nn.Module, str]], signal: Signal, call: Callable[[nn.Module, Tensor], Tensor]) -> Signal:
    """The modules with their roles in order on the tensor of ``signal``; ``call`` runs those that no kernel takes over.

    Roles of residual blocks in an unrolled row: at a 'fork' the tensor is put aside, at a 'swap' exchanged for the last that
    was, and at a 'join' added to it.
    """
    weights = layers.cast(_weights(parts), signal.x.device.type)
    saving = torch.is_grad_enabled()
    merged = _merged(parts, signal.x)
    aside: list[Signal] = []
    end, i = len(parts), 0
    while i < end:
        m, role = parts[i]
        i += 1
        x = signal.x
        if role == 'norm' and several(m, x):
            norms, neuron = norms_and_neuron(parts, i - 1, x.shape[0])
            neuron = neuron if layers.takes(neuron, x.shape[0]) else None
            i += len(norms) - 1 + (neuron is not None)
            own = [layers.of(norm) for norm in norms]
            found = None if neuron is not None else junction(parts, i, x.shape[0])
            if found is not None and (not found.joins or layers.alike(aside[-1].x, x)):
                shortcut = aside.pop().x if found.joins else None
                total, signal = norm_sum_neuron(own, found.neuron, signal, shortcut)
                aside += [total] * found.forks
                i = found.end
            else:
                signal = layers.norm_neuron(own, neuron or Neuron(), signal)
        elif role == 'fork':
            aside.append(signal)
        elif role == 'swap':
            aside[-1], signal = signal, aside[-1]
        elif role == 'join':
            signal = add(aside.pop(), signal)
        elif role == 'attention':
            signal = m.project_and_mix(signal, merged.get(m))
        elif role == 'drop path' and not m.drops:
            pass
        elif role == 'layer':
            signal = layers.conv(m, signal, *_weight_and_bias(m, weights, x))
        elif role == 'pool' and signal.divisor is not None and saving:
            signal = spike_pool(m, signal)
        elif role == 'repconv' and several(m.norm1, x):
            kernel = weights.get(m.dwconv.weight, m.dwconv.weight)
            signal, bias = layers.bordered_norm(layers.of(m.norm1), kernel, signal, not m.norm2.training)
            signal = layers.conv(m.dwconv, signal, kernel, bias, padding=(1, 1))
        elif role == 'norm-first repconv' and several(m.norm1, x):
            first, kernel = (weights.get(conv.weight, conv.weight) for conv in (m.conv1, m.dwconv))
            nothing = x.new_ones(x.shape[2], 1, 1, 1)  # that the border would be multiplied with
            signal = layers.conv(m.conv1, layers.bordered_norm(layers.of(m.norm1), nothing, signal, False)[0], first, None)
            signal = layers.conv(m.dwconv, signal, kernel, m.bias().to(kernel.dtype), padding=(1, 1))
        elif role == 'neuron' and saving:
            signal = fire(m, signal)
        else:
            signal = Signal(call(m.norm1 if role == 'repconv' else m, x))
    keep_statistics(merged.values())
    return signal


def _merged(parts: list[tuple[nn.Module, str]], x: Tensor) -> dict[nn.Module, Merged]:
    """The layers of all attentions that can be merged, see :mod:`.cuda_merge`."""
    rows = {m: m.mergeable_rows(x) for m, role in parts if role == 'attention'}
    rows = {m: own for m, own in rows.items() if own is not None}
    return dict(zip(rows, merge(list(rows.values()), x.device.type), strict=True))


class Junction(NamedTuple):
    """What stands behind a norm of an unrolled row: the sum with a shortcut, where it goes, and the neuron that reads it.

    Attributes:
        end: The first part behind it.
        joins: There is a shortcut.
        forks: How many rows go on with the sum, beside the neuron's.
        neuron: None: it is none that the kernel knows.
    """

    end: int
    joins: bool
    forks: int
    neuron: Neuron | None


def junction(parts: Sequence[tuple[nn.Module, str]], i: int, steps: int) -> Junction | None:
    """The junction at ``parts[i]``, of ``steps`` time steps; None: there is none."""
    joins, forks, neuron = False, 0, None
    for end in range(i, len(parts)):
        m, role = parts[end]
        if role == 'join' and not joins and not forks:
            joins = True
        elif role == 'fork':
            forks += 1
        elif role == 'neuron' and (joins or forks) and count_divisor(m) is not None:
            known = described(m, steps)
            neuron = known if layers.takes(known, steps) else None
            break
        elif role != 'drop path' or m.drops:
            break
    else:
        end = len(parts)
    if not joins and neuron is None:
        return None
    return Junction(end + (neuron is not None), joins, forks, neuron)


def _weights(parts: list[tuple[nn.Module, str]]) -> list[Tensor]:
    """Weights and biases of the row that autocast would cast."""
    found: dict[Tensor, None] = {}
    inside = {'layer': lambda m: [m], 'repconv': lambda m: [m.dwconv], 'norm-first repconv': lambda m: [m.conv1, m.dwconv]}
    for m, role in parts:
        for layer in inside[role](m) if role in inside else ():
            found |= {layer.weight: None} if weight_bits(layer) is None else {}
            found |= {} if layer.bias is None else {layer.bias: None}
    return list(found)


def _weight_and_bias(layer: nn.Module, weights: dict[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor | None]:
    bias = None if layer.bias is None else weights.get(layer.bias, layer.bias)
    weight = used_weight(layer)
    if weight is None:
        return weights.get(layer.weight, layer.weight), bias
    return weight.to(layers.cast_dtype(x.device.type) or weight.dtype), bias
