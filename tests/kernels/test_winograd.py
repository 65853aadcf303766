"""Gradients of 3x3 convolutions by fewer products are the ordinary ones."""

import pytest
import torch
from torch import nn

from mmspike.kernels import library, winograd
from mmspike.kernels.layout import fold, unfold
from mmspike.kernels.recompute import Signal
from mmspike.kernels.spike_conv import spike_conv

# channels in and out, groups, padding, size: edges of tiles, of blocks of tiles and of strips of columns
CASES = {
    'one strip': (16, 16, 1, (1, 1), (14, 14)),
    'three vectors': (48, 33, 1, (1, 1), (13, 10)),
    'groups': (64, 96, 2, (1, 1), (9, 12)),
    'many channels': (150, 70, 1, (1, 1), (8, 8)),
    'no padding': (20, 24, 1, (0, 0), (15, 11)),
    'more padding': (17, 18, 1, (2, 0), (6, 23)),
    'a column': (16, 32, 1, (1, 1), (130, 1)),
}


@pytest.fixture(autouse=True)
def _vectors():
    if not winograd._pays():
        pytest.skip('needs a C compiler and AVX-512')


def gradients(layer: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor) -> tuple[list, list]:
    """Ours and PyTorch's of (layer(x) * weight).sum() for x, weight and bias; x [T, B, C, H, W]."""
    leaves = [x, *layer.parameters()]
    outs = spike_conv(layer, Signal(x)).x, unfold(layer(fold(x)), x.shape[0])
    ours, plain = (list(torch.autograd.grad((out * weight).sum(), leaves)) for out in outs)
    return ours, plain


@pytest.mark.parametrize('name', CASES)
def test_equals_plain(name):
    C, N, groups, padding, (H, W) = CASES[name]
    layer = nn.Conv2d(C, N, 3, padding=padding, groups=groups).double()
    x = torch.randn(2, 5, C, H, W, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 5, N, H + 2 * padding[0] - 2, W + 2 * padding[1] - 2, dtype=torch.float64)
    assert winograd.fits(fold(weight), layer.weight, (1, 1), padding, (1, 1), groups)
    torch.testing.assert_close(*gradients(layer, x, weight), rtol=1e-10, atol=1e-10)


def test_float32_is_nearly_as_exact():
    """The error is below 1e-4 of the largest gradient, for many channels."""
    layer = nn.Conv2d(256, 256, 3, padding=1)
    x, weight = torch.randn(2, 2, 256, 12, 12, requires_grad=True), torch.randn(2, 2, 256, 12, 12)
    ours, _ = gradients(layer, x, weight)
    exact, _ = gradients(layer.double(), x.detach().double().requires_grad_(), weight.double())
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).abs().max() < 5e-5 * b.abs().max()


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_sums_do_not_depend_on_threads_or_layout(memory_format):
    layer, threads = nn.Conv2d(32, 48, 3, padding=1), torch.get_num_threads()
    x, weight = torch.randn(1, 9, 32, 24, 24, requires_grad=True), torch.randn(1, 9, 48, 24, 24)
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(gradients(layer, x, weight)[0])
            layer.to(memory_format=memory_format)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_other_convolutions_take_pytorch():
    weight, grad = torch.zeros(32, 32, 3, 3), torch.zeros(8, 32, 16, 16)
    ordinary = (1, 1), (1, 1), (1, 1), 1
    assert winograd.fits(grad, weight, *ordinary)
    assert not winograd.fits(grad, weight, (2, 2), *ordinary[1:])
    assert not winograd.fits(grad, weight, (1, 1), (1, 1), (2, 2), 1)
    assert not winograd.fits(grad, weight, (1, 1), (3, 1), (1, 1), 1)
    assert not winograd.fits(grad[:1], weight, *ordinary)  # few pixels
    assert not winograd.fits(grad, weight[:, :8], (1, 1), (1, 1), (1, 1), 4)
    assert not winograd.fits(grad, weight[..., :1], *ordinary)
    assert not winograd.fits(grad.half(), weight.half(), *ordinary)
    assert library.available()
