"""Convolutions on the matrix units: against PyTorch in float64, and used where they fit."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmspike.kernels import amx
from mmspike.models.layers import Chain, ConvNorm
from mmspike.models.neurons import LIF, SFA

pytestmark = pytest.mark.skipif(not amx.available(), reason='the CPU has no AMX, or the compiler or system does not allow it')

# images, channels in and out, kernel, height, width: no multiples of a tile, a row longer than a chunk, one pixel
SHAPES = [(2, 20, 37, 3, 9, 11), (3, 33, 65, 1, 5, 7), (1, 16, 16, 3, 3, 600), (1, 48, 16, 1, 1, 1), (2, 64, 32, 3, 30, 3)]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('levels, norm', [(1, 1.0), (4, 4.0), (255, 3.0)])
def test_convolution_and_gradients_against_float64(shape, levels, norm):
    B, C, N, k, H, W = shape
    torch.manual_seed(0)
    counts = torch.randint(0, levels + 1, (B, C, H, W), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(N, C, k, k), torch.randn(N)
    s = (counts.double() / norm).requires_grad_()
    w = weight.double().requires_grad_()
    out = F.conv2d(s, w, bias.double(), padding=k // 2)
    grad = torch.randn(B, N, H, W).contiguous(memory_format=torch.channels_last)
    grad_s, grad_w = torch.autograd.grad(out, (s, w), grad.double())
    assert relative(amx.conv(counts, norm, weight, bias).double(), out) < 1e-6
    # gradients are split into 16 bits
    assert relative(amx.conv_input_gradient(grad, weight).double(), grad_s) < 2e-5
    assert relative(amx.conv_weight_gradient(counts, norm, grad, k).double(), grad_w) < 2e-5


def test_results_do_not_depend_on_the_number_of_threads():
    counts = torch.randint(0, 5, (2, 32, 28, 28), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(48, 32, 3, 3)
    threads = torch.get_num_threads()
    try:
        outs = []
        for n in (1, 2):
            torch.set_num_threads(n)
            outs.append(amx.conv(counts, 4.0, weight, None))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*outs)


def test_weights_far_below_the_largest_keep_their_bits():
    """Splitting is relative to each weight, not to the largest."""
    counts = torch.ones(1, 16, 4, 4, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(16, 16, 1, 1)
    weight[0, 0] = 1 / 3 * 1e-12
    weight[1, 1] = 1 / 3 * 1e12
    out = amx.conv(counts, 1.0, weight, None)
    torch.testing.assert_close(out[:, 0], torch.full((1, 4, 4), 1 / 3 * 1e-12), rtol=1e-7, atol=0)
    torch.testing.assert_close(out[:, 1], torch.full((1, 4, 4), 1 / 3 * 1e12), rtol=1e-7, atol=0)


@pytest.mark.parametrize('neuron', [LIF(tau=2.0), SFA(levels=4)], ids=['LIF', 'SFA'])
def test_chain_uses_them_and_agrees_with_the_plain_modules(neuron, monkeypatch):
    torch.manual_seed(0)
    modules = [neuron, ConvNorm(16, 64, 3), neuron, ConvNorm(64, 16), neuron, ConvNorm(16, 32, 3)]
    x = torch.randn(2, 3, 16, 12, 10)
    grad = torch.randn(2, 3, 32, 12, 10)
    calls = []
    for name in ('conv', 'conv_input_gradient', 'conv_weight_gradient'):
        original = getattr(amx, name)
        monkeypatch.setattr(amx, name, lambda *a, f=original, n=name: (calls.append(n), f(*a))[1])

    def run(forward) -> list[torch.Tensor]:
        leaf = x.clone().requires_grad_()
        parameters = [p for m in modules for p in m.parameters()]
        out = forward(leaf)
        return [out.detach(), *torch.autograd.grad(out, [leaf, *parameters], grad)]

    fused = run(Chain({str(i): m for i, m in enumerate(modules)}))
    # three convolutions, the outputs of two of them computed anew in the backward pass
    assert sorted(calls) == ['conv'] * 5 + ['conv_input_gradient'] * 3 + ['conv_weight_gradient'] * 3
    plain = run(lambda leaf: nn.Sequential(*modules)(leaf))
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1.0, b.abs().max().item()))


def test_what_does_not_fit_is_left_to_pytorch():
    weight = torch.randn(32, 32, 3, 3)
    x = torch.zeros(1, 32, 8, 8)
    assert amx.fits(x, weight, (1, 1), (1, 1), (1, 1), 1)
    assert not amx.fits(x, weight, (2, 2), (1, 1), (1, 1), 1)
    assert not amx.fits(x, weight, (1, 1), (0, 0), (1, 1), 1)
    assert not amx.fits(x.double(), weight, (1, 1), (1, 1), (1, 1), 1)
    assert not amx.fits(x, torch.randn(32, 1, 3, 3), (1, 1), (1, 1), (1, 1), 32)
    assert not amx.fits(x, torch.randn(32, 32, 5, 5), (1, 1), (2, 2), (1, 1), 1)
