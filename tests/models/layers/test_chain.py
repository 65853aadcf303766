"""The fused ways through a block give what its modules give, one after the other."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from mmspike import kernels
from mmspike.kernels import amx, library
from mmspike.kernels.counts import pack, unpack
from mmspike.kernels.norm_neuron import norm_neuron
from mmspike.kernels.spike_conv import Layer, _again, _large_counts, depthwise_weight_gradient
from mmspike.models import layers
from mmspike.models.layers import Chain, ConvNorm, RepConvNorm, Signal, SpikingConv, attend, fold, unfold
from mmspike.models.layers.choice import described, fire, fusable
from mmspike.models.neurons import IF, LIF, PLIF, SFA

BN = dict(type='BN')
CHAINS = dict(
    lif=lambda: [LIF(), ConvNorm(6, 20, 3), LIF(surrogate='atan', v_threshold=0.6), ConvNorm(20, 6)],
    rectangle=lambda: [LIF(), ConvNorm(6, 20, 3), LIF(tau=1.5, surrogate='rectangle', v_reset=-0.1), ConvNorm(20, 6)],
    sfa=lambda: [
        SFA(4),
        ConvNorm(6, 20, bias=True),
        SFA(8, divisor=1),
        ConvNorm(20, 20, 7, groups=20),
        SFA(2),
        ConvNorm(20, 6),
    ],
    strided=lambda: [SFA(4), ConvNorm(6, 20, 3, 2), LIF()],
    membranes=lambda: [LIF(), nn.Conv2d(6, 6, 5, padding=2, groups=6), ConvNorm(6, 20), nn.Conv2d(20, 20, 3, 1, 1)],
    other_neurons=lambda: [PLIF(), ConvNorm(6, 20, 3), IF(), ConvNorm(20, 6), nn.ReLU(), ConvNorm(6, 6, 3)],
    rounding_up=lambda: [SFA(4, rounding='up'), ConvNorm(6, 20), SFA(4, rounding='up'), ConvNorm(20, 6)],
    stateful=lambda: [LIF(), ConvNorm(6, 20), LIF(stateful=True), ConvNorm(20, 6)],
    group_norm=lambda: [LIF(), ConvNorm(6, 20, norm_cfg=dict(type='GN', num_groups=4)), LIF(), ConvNorm(20, 6)],
    repconv=lambda: [SFA(4), RepConvNorm(6, BN), LIF(), RepConvNorm(6, BN)],
)


@pytest.fixture(autouse=True)
def _compiler():
    if not library.available():
        pytest.skip('needs a C compiler')


def randomized(modules):
    modules = nn.ModuleList(modules)
    for name, value in modules.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point() and value.dim() == 1:
            value.normal_(0.4, 0.3)
        elif value.is_floating_point() and value.dim() > 1:
            value.mul_(2)
    return modules


def run(modules, x, plain):
    """Output, gradients by name, and state afterwards."""
    modules, x = copy.deepcopy(modules), x.clone().requires_grad_()
    with kernels.use(not plain):
        out = layers.run(modules, x)
    torch.manual_seed(7)
    # not randn_like, which depends on dtype and order in memory
    out.backward(torch.randn(out.shape, dtype=torch.float64).to(out.dtype))
    grads = {k: p.grad for k, p in modules.named_parameters()} | dict(x=x.grad)
    return out.detach(), grads, modules.state_dict()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('name', CHAINS)
def test_equals_its_modules(name, training):
    modules = randomized(CHAINS[name]()).double().train(training)
    x = torch.randn(3, 2, 6, 11, 9, dtype=torch.float64) * 2
    out, grads, state = run(modules, x, False)
    expected, expected_grads, expected_state = run(modules, x, True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(state, expected_state)
    assert grads.keys() == expected_grads.keys()
    for k, grad in expected_grads.items():
        assert grads[k] is not None
        torch.testing.assert_close(grads[k], grad, rtol=1e-6, atol=1e-9, msg=lambda m, k=k: f'{k}: {m}')


def test_many_blocks_of_rows_in_float32():
    """More rows than one block of the kernels' sums, no multiple of it, and channels far from zero."""
    modules = randomized([ConvNorm(3, 40, 3), ConvNorm(40, 5)])
    x = torch.randn(2, 3, 3, 41, 37) * 2 + 100 * torch.arange(3.0).view(3, 1, 1)
    out, grads, state = run(modules, x, False)
    expected, expected_grads, expected_state = run(copy.deepcopy(modules).double(), x.double(), True)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
    for k, value in expected_state.items():
        torch.testing.assert_close(state[k].to(value.dtype), value, rtol=1e-4, atol=1e-4)
    expected_grads.pop('0.norm.bias')  # 0, since a norm follows
    for k, grad in expected_grads.items():
        torch.testing.assert_close(grads[k].double(), grad, rtol=1e-3, atol=1e-3 * grad.abs().max().item(), msg=k)


@pytest.mark.parametrize('modules', [[ConvNorm(3, 4, 3)], [RepConvNorm(3, BN)], [nn.Conv2d(3, 3, 5, padding=2, groups=3)]])
@pytest.mark.parametrize('training', [True, False])
def test_gradcheck_without_neurons(modules, training):
    modules = copy.deepcopy(randomized(modules)).double().train(training)
    for m in modules.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.0  # the same function in every call
    x = torch.randn(2, 1, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    # RepConv's border depends on its first norm without gradient
    parameters = {k: p for k, p in modules.named_parameters() if 'rep.norm1' not in k}

    def function(x, *values):
        return layers.run(modules, x)

    assert fusable(x, *modules)
    assert torch.autograd.gradcheck(function, (x, *parameters.values()))


@pytest.mark.parametrize('neuron', [LIF(), SFA(4)])
def test_attention(neuron):
    q, k, v = ((torch.randn(2, 3, c, 5, 4).double() * 2).requires_grad_() for c in (8, 8, 16))
    weight = torch.randn(2, 3, 16, 5, 4).double()
    results = []
    for plain in (False, True):
        with kernels.use(not plain):
            spikes = [fire(neuron, Signal(x)) for x in (q, k, v)]
            out = attend(*spikes, 4).x
        results.append((out, *torch.autograd.grad((out * weight).sum(), (q, k, v))))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('order', [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_attention_of_neurons_of_several_kinds(order):
    """Each of q, k, v by its own divisor; counts above 255 over one of them would wrap if another's were taken."""
    kinds = [LIF(), SFA(200, divisor=1), SFA(4)]
    neurons = [kinds[i] for i in order]
    xs = [(torch.randn(2, 3, 8, 5, 4).double() * 100).requires_grad_() for _ in neurons]
    results = []
    for on in (True, False):
        with kernels.use(on):
            spikes = [fire(neuron, Signal(x)) for neuron, x in zip(neurons, xs, strict=True)]
            out = attend(*spikes, 4)
        results.append((out.x, *torch.autograd.grad(out.x.square().sum(), xs)))
    assert [s.divisor for s in spikes] == [[1.0, 1.0, 4.0][i] for i in order] and max(s.x.max() for s in spikes) > 100
    q, k, v = (s.x.detach().unflatten(2, (4, 2)).flatten(-2).movedim(-1, -2) for s in spikes)
    by_hand = (q @ (k.transpose(-1, -2) @ v)).movedim(-1, -2).reshape(out.x.shape)
    assert torch.equal(results[0][0], by_hand)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('shape', [(2, 16, 40, 21), (3, 21, 9, 5), (1, 50, 3, 2)])
@pytest.mark.parametrize('k', [3, 5, 7])
def test_depthwise_weight_gradient(shape, k):
    x, grad = torch.randn(2, *shape, dtype=torch.float64)
    weight = torch.zeros(shape[1], 1, k, k, dtype=torch.float64, requires_grad=True)
    out = nn.functional.conv2d(x, weight, padding=k // 2, groups=shape[1])
    (expected,) = torch.autograd.grad(out, weight, grad)
    torch.testing.assert_close(depthwise_weight_gradient(x, grad, k), expected)
    torch.testing.assert_close(depthwise_weight_gradient(x.float(), grad.float(), k), expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('norm', [1.0, 4.0, 3.0])
def test_packed_spikes_are_the_same_spikes(norm):
    spikes = torch.randint(0, 256, (2, 5, 3, 7)) / norm
    counts = pack(spikes, norm)
    assert counts.dtype == torch.uint8
    assert torch.equal(unpack(counts, norm, spikes.dtype), spikes)


def test_saves_one_byte_a_spike_and_no_input_of_a_norm_that_is_computed_anew():
    modules = randomized([SFA(4), ConvNorm(4, 32, 3), SFA(4), ConvNorm(32, 4)])
    x = torch.randn(1, 2, 4, 16, 16, requires_grad=True)
    saved = {}

    def keep(t):
        saved[t.data_ptr()] = t.numel() * t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layers.run(modules, x)
    pixels = 2 * 16 * 16
    weights = sum(p.numel() * 4 for p in modules.parameters())
    # counts of both neurons, from which the first norm's input follows, and the input of the second norm
    assert sum(saved.values()) < pixels * (4 + 32 + 4 * 4) + 2 * weights


@pytest.mark.parametrize('index', [0, 1, 2])
def test_hooks_are_called(index):
    modules = randomized([LIF(), ConvNorm(3, 4), LIF()])
    x = torch.randn(2, 1, 3, 5, 5)
    assert fusable(x, *modules)
    seen = []
    modules[index].register_forward_hook(lambda module, args, out: seen.append(out))
    out = layers.run(modules, x)
    assert len(seen) == 1
    assert index != 2 or seen[0] is out


def test_frozen_weights_get_no_gradient_and_pass_it_on():
    modules = randomized([SFA(4), ConvNorm(3, 8, 3), SFA(4), ConvNorm(8, 8, 7, groups=8)])
    modules.eval().requires_grad_(False)
    x = torch.randn(1, 2, 3, 9, 9, requires_grad=True)
    layers.run(modules, x).sum().backward()
    assert x.grad.any() and all(p.grad is None for p in modules.parameters())


def test_autocast_runs_the_modules():
    modules = randomized([SFA(4), ConvNorm(3, 8)])
    x = torch.randn(1, 2, 3, 9, 9)
    with torch.autocast('cpu', torch.bfloat16):
        assert not fusable(x, *modules)
        assert layers.run(modules, x).isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_hook_may_change_what_a_neuron_sends(dtype):
    """What a hook on the neuron before a chain has made of its spikes is no spikes any more."""
    neuron = SFA(levels=4, divisor=4)
    neuron.register_forward_hook(lambda m, args, out: out * 0.3)
    conv = nn.Conv2d(8, 8, 1).to(dtype)
    signal = fire(neuron, Signal((torch.randn(1, 2, 8, 6, 6, dtype=dtype) * 4).requires_grad_()))
    assert signal.divisor is None
    out, s = layers.run([conv], signal), signal.x
    torch.testing.assert_close(out[0], conv(s[0]))
    grads = [torch.autograd.grad(y.square().sum(), conv.weight)[0] for y in (out, conv(s[0]))]
    torch.testing.assert_close(*grads)


def test_global_hooks_see_the_modules():
    seen = []
    modules = CHAINS[next(iter(CHAINS))]()
    handle = nn.modules.module.register_module_forward_hook(lambda m, args, out: seen.append(m))
    try:
        layers.run(modules, torch.randn(3, 2, 6, 11, 9))
    finally:
        handle.remove()
    assert {id(m) for m in modules} <= {id(m) for m in seen}


def test_nan_reaches_the_output():
    """Though spikes are kept in bytes, which hold none."""
    norm, neuron, conv = nn.BatchNorm2d(32), SFA(levels=4, divisor=4), nn.Conv2d(32, 32, 1)
    x = torch.randn(1, 2, 32, 8, 8)
    x[0, 0, 3, 2, 1] = float('nan')
    outs = [layers.run([norm, neuron, conv], x), layers.run([neuron, conv], x), layers.run([conv], Signal(neuron(x), 4.0))]
    leaf = x.clone().requires_grad_()
    q = fire(neuron, Signal(leaf))
    outs.append(attend(q, q, q, 2).x)
    for out in outs:
        assert out.isnan().any()
        out.sum().backward()
        assert conv.weight.grad.isnan().any() or leaf.grad.isnan().any()


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('neuron', [LIF(), IF(), SFA(4)], ids=lambda n: type(n).__name__)
def test_nan_is_told_where_spikes_are_counted(neuron, training):
    """A NaN membrane, whatever the norm's statistics, gives floats in place of counts, and the NaN is among them."""
    norm = nn.BatchNorm2d(4).train(training)
    x = torch.randn(2, 3, 4, 5, 6) * 2
    counted = norm_neuron([norm], described(neuron, x.shape[0]), Signal(x), count=True)
    assert counted.counts.dtype == torch.uint8
    x[0, 1, 2, 3, 4] = float('nan')
    signal = norm_neuron([norm], described(neuron, x.shape[0]), Signal(x), count=True)
    assert signal.counts is None and signal.x.isnan().any()
    with kernels.use(False):
        expected = neuron(unfold(norm(fold(x)), 2))
    assert torch.equal(signal.x.isnan(), expected.isnan())


@pytest.mark.parametrize('neuron', [LIF(), SFA(4)], ids=lambda n: type(n).__name__)
def test_one_value_a_channel_is_refused_as_pytorch_does(neuron):
    """Also where a strided convolution leaves it."""
    chain = Chain(conv1=ConvNorm(3, 4, 3, 2), neuron=neuron, conv2=ConvNorm(4, 4, 3, 2))
    x = torch.randn(1, 1, 3, 3, 3)
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        chain(x)
    assert chain.eval()(x).shape == (1, 1, 4, 1, 1)


def test_the_default_dtype_does_not_matter():
    neuron, conv = SFA(levels=4, divisor=4), nn.Conv2d(32, 32, 3, padding=1)
    s = neuron(torch.randn(1, 2, 32, 8, 8) * 3)
    expected = layers.run([conv], Signal(s, 4.0))
    weight = torch.autograd.grad(expected.square().sum(), conv.weight)[0]
    torch.set_default_dtype(torch.float64)
    try:
        out = layers.run([conv], Signal(s, 4.0))
        grad = torch.autograd.grad(out.square().sum(), conv.weight)[0]
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(out, expected) and torch.equal(grad, weight)


def test_a_chain_in_a_chain_is_opened_and_names_stay():
    inner = SpikingConv(6, 20, 3, neuron=dict(type='SFA', levels=4), norm_cfg=BN)
    chain = Chain(first=inner, neuron=LIF(), conv=ConvNorm(20, 6))
    assert list(chain.state_dict())[:2] == ['first.conv.weight', 'first.norm.weight']
    names = ['SFA', 'Conv2d', 'BatchNorm2d', 'LIF', 'Conv2d', 'BatchNorm2d']
    assert [type(m).__name__ for m, _ in chain.as_row().parts] == names
    x = torch.randn(3, 2, 6, 11, 9)
    out = chain(x)
    with kernels.use(False):
        torch.testing.assert_close(out, chain(x))


def test_a_subclass_with_a_forward_of_its_own_is_called():
    class Doubled(ConvNorm):
        def forward(self, x):
            return 2 * super().forward(x)

    doubled = Doubled(4, 4).eval()
    x = torch.randn(1, 2, 4, 5, 5)
    torch.testing.assert_close(Chain(conv=doubled).eval()(x), 2 * ConvNorm.forward(doubled, x))


@pytest.mark.parametrize('module', [nn.GRU(4, 4), nn.Flatten(), nn.MultiheadAttention(4, 1)], ids=lambda m: type(m).__name__)
def test_modules_of_which_nothing_says_what_they_take_are_refused_by_name(module):
    with pytest.raises(ValueError, match=f'Chain.third is a {type(module).__name__}, of which nothing says'):
        Chain(first=LIF(), second=ConvNorm(4, 4), third=module)
    with pytest.raises(ValueError, match=f'Residual.third is a {type(module).__name__}'):
        layers.Residual(dict(third=module))


def test_modules_may_say_what_they_take():
    class Shift(nn.Module):
        takes_time = True

        def forward(self, x):
            return x.roll(1, 0)

    class Flip(nn.Module):
        takes_time = False

        def forward(self, x):
            assert x.dim() == 4
            return x.flip(-1)

    x = torch.randn(3, 2, 4, 5, 5)
    assert torch.equal(Chain(a=Shift(), b=Flip())(x), x.roll(1, 0).flip(-1))


def test_a_step_by_step_neuron_of_spikingjelly_is_refused():
    neuron = pytest.importorskip('spikingjelly.activation_based.neuron')
    Chain(neuron=neuron.LIFNode(step_mode='m'))
    with pytest.raises(ValueError, match="step_mode='m'"):
        Chain(neuron=neuron.LIFNode(step_mode='s'))


@pytest.mark.parametrize('training', [True, False])
def test_counts_go_from_neuron_to_convolution(training, monkeypatch):
    """The way of CPUs with matrix units, whose functions PyTorch computes here."""
    used = []

    def conv(counts, divisor, weight, bias):
        used.append(counts.dtype)
        return nn.functional.conv2d(counts.to(weight.dtype) / divisor, weight, bias, padding=weight.shape[-1] // 2)

    def weight_gradient(counts, divisor, grad, k):
        s, shape = counts.to(grad.dtype) / divisor, (grad.shape[1], counts.shape[1], k, k)
        return nn.grad.conv2d_weight(s, shape, grad, padding=k // 2)

    def input_gradient(grad, weight):
        shape = (grad.shape[0], weight.shape[1], *grad.shape[2:])
        return nn.grad.conv2d_input(shape, weight, grad, padding=weight.shape[-1] // 2)

    monkeypatch.setattr(amx, 'fits', lambda x, weight, stride, *args: weight.shape[0] >= 16 and tuple(stride) == (1, 1))
    monkeypatch.setattr(amx, 'conv', conv)
    monkeypatch.setattr(amx, 'conv_weight_gradient', weight_gradient)
    monkeypatch.setattr(amx, 'conv_input_gradient', input_gradient)
    neurons = [LIF(), SFA(4), LIF()]
    modules = [m for n in neurons for m in (n, ConvNorm(16, 16, 3))]
    modules = randomized([*modules, LIF(), nn.MaxPool2d(2), ConvNorm(16, 16)]).double().train(training)
    x = torch.randn(3, 2, 16, 6, 5, dtype=torch.float64) * 2
    out, grads, state = run(modules, x, False)
    assert len(used) >= 4 and set(used) == {torch.uint8}
    expected, expected_grads, expected_state = run(modules, x, True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(state, expected_state)
    for k, grad in expected_grads.items():
        torch.testing.assert_close(grads[k], grad, rtol=1e-6, atol=1e-9, msg=lambda m, k=k: f'{k}: {m}')


def test_large_images_are_computed_anew_in_strips_to_the_bit():
    conv = nn.Conv2d(16, 24, 1)
    counts = torch.randint(0, 5, (1, 2, 90, 93, 16), dtype=torch.uint8).movedim(-1, 2)
    sizes = []

    def compute(strip, **settings):
        sizes.append(strip.shape[3])
        return unpack(strip, **settings)

    settings = dict(divisor=4.0, dtype=torch.float32)
    args = Layer(conv), conv.weight.detach(), conv.bias.detach()
    whole = _again(args[0], partial(compute, **settings), *args[1:], counts)
    assert sizes == [90]
    assert _large_counts(args[0], partial(unpack, **settings), args[1], counts) is counts
    strips = _again(args[0], partial(unpack, **settings), *args[1:], counts)
    assert strips.stride() == whole.stride() and torch.equal(strips, whole)
