"""One small run of the kernels, before a device is trusted with a network."""

import torch
from torch import Tensor

from ..norm_neuron import LIF, SFA, Neuron


def run_kernels(device: str, shape: tuple[int, int, int, int, int] = (2, 2, 16, 4, 4)) -> list[Tensor]:
    """Results of every family of kernels on random tensors [T, B, C, H, W], channels innermost.

    Raises whatever Triton, its compiler or the driver raise where they cannot.
    """
    from . import attention, integer, lif, norm_neuron, shortcut  # which import the module that calls this
    from .launch import matrix_units

    T, B, C, H, W = shape
    x = torch.randn(T, B, H, W, C, device=device).permute(0, 1, 4, 2, 3)
    out = [lif.lif_spikes(x, 2.0, 1.0, 0.0), lif.lif_backward(x, None, None, x, None, 2.0, 1.0, 0.0, 'sigmoid', 4.0)[0]]
    spikes, codes = integer.sfa_byte_forward(x, 4, 4.0)
    out += [spikes, integer.sfa_byte_backward(x, codes, 4.0), integer.unpack(codes, 4.0, x.dtype)]
    scale, zeros = torch.ones(C, device=device), torch.zeros(C, device=device)
    running, parameters = [zeros.clone(), scale.clone(), torch.zeros((), dtype=torch.int64, device=device)], [scale, zeros]
    statistics = norm_neuron.batch_statistics(x.flatten(0, 1), 1e-5)
    for neuron in (Neuron(LIF, 1, 'sigmoid', 2.0, alpha=4.0), Neuron(SFA, levels=4, divisor=4.0)):
        numbers = norm_neuron.numbers(neuron)
        fired, affine = norm_neuron.norm_neuron_forward(x, *statistics, parameters, running, [1e-5], [0.1], numbers)
        sums = norm_neuron.norm_neuron_sums(x, x, affine, numbers)
        out += [fired, norm_neuron.norm_neuron_backward(x, x, affine, sums, parameters, running, [1e-5], numbers, True)[0]]
        counts = neuron.kind == SFA
        total, fired, codes, affine = shortcut.norm_sum_forward(
            x, x, *statistics, parameters, running, [1e-5], [0.1], numbers, counts
        )
        out += [total, fired, shortcut.norm_sum_gradient(x, codes if counts else total, x, x, affine, numbers)[0]]
        if matrix_units(x):
            sizes = 1, C // 4, C // 2, 1.0, numbers
            kv = attention.keys_values(spikes, *sizes[:3])
            mixed, _ = attention.attention_forward(spikes, kv, *sizes, True)
            out += [mixed, attention.attention_backward(spikes, kv, mixed, *sizes)]
    return out
