"""A row of modules on CUDA: norms fused with neurons, weights cast together, spikes computed anew in the backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmspike.kernels.gpu import layers
from mmspike.kernels.norm_neuron import Neuron
from mmspike.kernels.pools import spike_pool
from mmspike.kernels.recompute import Signal

from .choice import fire, norms_and_neuron, several
from .low_bit import used_weight, weight_bits


def walk_on_cuda(parts: list[tuple[nn.Module, str]], signal: Signal, call: Callable[[nn.Module, Tensor], Tensor]) -> Signal:
    """The modules with their roles in order on the tensor of ``signal``; ``call`` runs those that no kernel takes over."""
    weights = layers.cast(_weights(parts), signal.x.device.type)
    saving = torch.is_grad_enabled()
    end, i = len(parts), 0
    while i < end:
        m, role = parts[i]
        i += 1
        x = signal.x
        if role == 'norm' and several(m, x):
            norms, neuron = norms_and_neuron(parts, i - 1, x.shape[0])
            neuron = neuron if layers.takes(neuron, x.shape[0]) else None
            i += len(norms) - 1 + (neuron is not None)
            signal = layers.norm_neuron([layers.of(norm) for norm in norms], neuron or Neuron(), signal)
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
    return signal


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
