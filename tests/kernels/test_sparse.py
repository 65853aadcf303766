"""Convolutions that add up the weights of spikes alone are the ordinary ones."""

import pytest
import torch
from torch import nn

from mmspike import kernels
from mmspike.kernels import library, sparse
from mmspike.kernels.layout import fold, unfold
from mmspike.kernels.norm_neuron import norm_neuron
from mmspike.kernels.recompute import Signal
from mmspike.kernels.spike_conv import PRODUCTS, spike_conv
from mmspike.models.layers import Chain, ConvNorm
from mmspike.models.layers.choice import described
from mmspike.models.neurons import ILIF, LIF

LAYERS = dict(
    pointwise=nn.Conv2d(70, 35, 1),
    strided_pointwise=nn.Conv2d(33, 80, 1, 2, bias=False),
    three=nn.Conv2d(20, 16, 3, padding=1),
    strided=nn.Conv2d(64, 65, 3, 2, 1),
    of_many_weights=nn.Conv2d(700, 1600, 1),
    dilated=nn.Conv2d(5, 17, (3, 2), (1, 2), (2, 0), (2, 1)),
    large=nn.Conv2d(3, 16, 7, 4, 3),
    linear=nn.Linear(70, 35),
)


@pytest.fixture(autouse=True)
def _compiler():
    if not library.available():
        pytest.skip('needs a C compiler')


def spikes(share: float, channels: int, *size: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (torch.rand(2, 3, channels, *size) < share).to(dtype)


@pytest.mark.parametrize('share', [0.0, 0.1, 0.25, 0.9])
@pytest.mark.parametrize('name', LAYERS)
def test_equals_plain(name, share):
    """In value and all gradients, whether few spikes are added up or many multiplied; more pixels than a block."""
    layer = LAYERS[name].double()
    channels = layer.weight.shape[1]
    size = (26, 22) if name == 'strided_pointwise' else (13, 11)  # of the pixels that are left, as many
    s = spikes(share, channels).repeat(1, 100, 1) if name == 'linear' else spikes(share, channels, *size)
    x = s.clone().requires_grad_()
    ours = spike_conv(layer, Signal(x, 1.0))
    plain = unfold(layer(fold(x)), 2)
    torch.testing.assert_close(ours.x, plain, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(plain)
    leaves = [x, *layer.parameters()]
    grads, expected = (torch.autograd.grad((out * weight).sum(), leaves) for out in (ours.x, plain))
    torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-12)
    widens = isinstance(layer, nn.Conv2d) and layer.out_channels >= layer.in_channels
    again = share < sparse.SHARE_ANEW or (widens and layer.weight[0].numel() <= PRODUCTS)
    assert (ours.anew is not None) == again
    if again:  # bit by bit
        assert torch.equal(ours.anew.compute(*ours.anew.tensors), ours.x)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('channels', [1, 63, 64, 130])
def test_bits_come_back(channels, dtype):
    s = spikes(0.3, channels, 5, 4, dtype=dtype)[0]
    bits = sparse.pack(s, dtype)
    assert bits.share == s.mean(dtype=torch.float64) and torch.equal(bits.unpack(dtype), s)
    counted = sparse.pack(s.to(torch.uint8), dtype)
    assert counted.share == bits.share and torch.equal(counted.words, bits.words)


@pytest.mark.parametrize('value', [2.0, 0.5, -1.0, float('nan'), float('inf')])
def test_other_values_are_no_bits(value):
    for dtype in (torch.float32, torch.float64):
        s = spikes(0.3, 70, 3, 3, dtype=dtype)[0]
        s[1, 69, 2, 2] = value
        assert sparse.pack(s, dtype) is None
    assert sparse.pack(torch.full((1, 3), 2, dtype=torch.uint8), dtype) is None


@pytest.mark.parametrize('value', [3.0, float('nan')])
def test_counts_and_nan_take_another_way(value):
    """A neuron whose divisor is 1 may count further than 1."""
    layer, x = LAYERS['three'].double(), spikes(0.1, 20, 10, 10)
    x[1, 2, 19, 5, 5] = value
    out = spike_conv(layer, Signal(x, 1.0)).x
    torch.testing.assert_close(out, unfold(layer(fold(x)), 2), equal_nan=True)
    neuron = ILIF(levels=4)  # the norm is 1
    chain = Chain(neuron=neuron, conv=layer)
    x = torch.randn(2, 3, 20, 10, 10, dtype=torch.float64) * 3
    torch.testing.assert_close(chain(x), unfold(layer(fold(neuron(x))), 2))


@pytest.mark.parametrize('threshold', [1.5, -0.5])
def test_chain_saves_bits(threshold):
    """Of a norm, a neuron and a convolution: where spikes are few, next to nothing; the gradients are the plain ones'."""
    neuron = LIF(v_threshold=threshold, v_reset=-1.0)
    chain = Chain(first=ConvNorm(16, 64, 1), neuron=neuron, second=ConvNorm(64, 16, 3), neuron2=LIF(), third=ConvNorm(16, 32))
    chain = chain.double()
    x = torch.randn(2, 2, 16, 12, 12, dtype=torch.float64, requires_grad=True)
    leaves, saved = [x, *chain.parameters()], {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        saved[t.untyped_storage().data_ptr()] = t.dtype, t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = chain(x)
    grads = torch.autograd.grad(out.square().sum(), leaves)
    with kernels.use(False):
        plain = chain(x)
        expected = torch.autograd.grad(plain.square().sum(), leaves)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(grads, expected)
    assert any(dtype == torch.int64 for dtype, _ in saved.values())
    # the output of the second convolution is [2, 2, 16, 12, 12]
    floats = sum(dtype == torch.float64 and n >= 8 * 16 * 4 * 144 for dtype, n in saved.values())
    assert floats == (3 if threshold > 1 else 4)


def test_spikes_that_are_counted_are_read_as_bits():
    """Of a norm and a neuron in one, no floats are made; a convolution of stride 2 reads some pixels of them."""
    norm, conv = nn.BatchNorm2d(32).double(), nn.Conv2d(32, 16, 1, 2).double()
    for threshold in (1.0, -0.5):
        neuron = LIF(v_threshold=threshold, v_reset=-1.0)
        x = torch.randn(3, 2, 32, 13, 13, dtype=torch.float64, requires_grad=True)
        signal = norm_neuron([norm], described(neuron, 3), Signal(x), count=True)
        out = spike_conv(conv, signal).x
        with kernels.use(False):
            plain = unfold(conv(fold(neuron(unfold(norm(fold(x)), 3)))), 3)
        torch.testing.assert_close(out, plain)
        leaves = [x, *norm.parameters(), *conv.parameters()]
        grads, expected = (torch.autograd.grad(y.square().sum(), leaves) for y in (out, plain))
        torch.testing.assert_close(grads, expected)


def test_weights_of_any_layout():
    layer, x = nn.Conv2d(64, 96, 3, padding=1), spikes(0.1, 64, 10, 10, dtype=torch.float32)
    out = spike_conv(layer, Signal(x, 1.0)).x
    assert torch.equal(spike_conv(layer.to(memory_format=torch.channels_last), Signal(x, 1.0)).x, out)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('share', [0.1, 0.9])
def test_pointwise_in_float32(share, memory_format):
    layer = nn.Conv2d(64, 96, 1).to(memory_format=memory_format)
    x = spikes(share, 64, 10, 9, dtype=torch.float32).requires_grad_()
    leaves = [x, *layer.parameters()]
    weight = torch.randn(2, 3, 96, 10, 9)
    outs = spike_conv(layer, Signal(x, 1.0)).x, unfold(layer(fold(x)), 2)
    grads, expected = (torch.autograd.grad((out * weight).sum(), leaves) for out in outs)
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grads, expected, rtol=1e-4, atol=1e-4)


def test_sums_do_not_depend_on_threads():
    layer, x, threads = nn.Conv2d(64, 96, 3, padding=1), spikes(0.1, 64, 20, 20, dtype=torch.float32), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            words = sparse.pack(fold(x), x.dtype).words
            out = spike_conv(layer, Signal(x, 1.0)).x
            results.append((words, out, torch.autograd.grad(out.square().sum(), layer.weight)[0]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
