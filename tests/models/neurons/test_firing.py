import copy
import itertools

import pytest
import torch
from spikingjelly.activation_based import neuron as sj_neuron
from spikingjelly.activation_based import surrogate as sj_surrogate

from mmspike.models.neurons import IF, LIF, PLIF, SURROGATES, build_neuron, lif

SJ_SURROGATES = dict(sigmoid=sj_surrogate.Sigmoid(4.0), atan=sj_surrogate.ATan(2.0), rectangle=sj_surrogate.Rect(1.0))


def input_current(dtype=torch.float32, T=5):
    return (torch.randn(T, 3, 4, 5, dtype=torch.float64) * 1.5 + 0.5).to(dtype).requires_grad_()


def reference(x, tau, surrogate, alpha, v_reset=0.0, v_threshold=1.0):
    """Step by step with autograd, the surrogate put in by a straight-through term whose gradient is the derivative."""
    v = torch.full_like(x[0], v_reset)
    out = []
    for t in range(x.shape[0]):
        h = v + x[t] if tau is None else v + (x[t] - (v - v_reset)) / tau
        u = h - v_threshold
        s = (u >= 0).to(x.dtype)
        s = s + (u - u.detach()) * SURROGATES[surrogate][0](u, alpha).detach()
        fired = s.detach()
        v = fired * v_reset + (1 - fired) * h
        out.append(s)
    return torch.stack(out), v


@pytest.mark.parametrize('surrogate', SURROGATES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_spikingjelly(surrogate, dtype):
    x, theirs_x = input_current(dtype), None
    theirs_x = x.detach().clone().requires_grad_()
    theirs = sj_neuron.LIFNode(
        tau=2.0, decay_input=True, v_reset=0.0, surrogate_function=SJ_SURROGATES[surrogate], detach_reset=True, step_mode='m'
    )
    expected = theirs(theirs_x)
    spikes = LIF(surrogate=surrogate)(x)
    assert 0.1 < spikes.mean() < 0.9
    assert torch.equal(spikes, expected)
    weight = torch.randn_like(x)
    (spikes * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, theirs_x.grad)


@pytest.mark.parametrize(('tau', 'v_reset', 'surrogate'), list(itertools.product([2.0, 1.3, None], [0.0, -0.2], SURROGATES)))
def test_gradients_equal_plain_autograd(tau, v_reset, surrogate):
    x = input_current(torch.float64)
    neuron = IF(v_reset=v_reset, surrogate=surrogate) if tau is None else LIF(tau, v_reset=v_reset, surrogate=surrogate)
    spikes, v = neuron.step(x, None)
    expected, expected_v = reference(x, tau, surrogate, neuron.alpha, v_reset)
    assert torch.equal(spikes, expected.detach())
    torch.testing.assert_close(v, expected_v)
    weight, weight_v = torch.randn_like(x), torch.randn_like(v)
    ours = torch.autograd.grad((spikes * weight).sum() + (v * weight_v).sum(), x)[0]
    plain = torch.autograd.grad((expected * weight).sum() + (expected_v * weight_v).sum(), x)[0]
    torch.testing.assert_close(ours, plain)


def test_learnable_time_constant():
    x = input_current(torch.float64)
    neuron = PLIF(tau=1.7).double()
    assert torch.equal(neuron(x) > 0, LIF(tau=1.7)(x) > 0)
    inverse = neuron.w.sigmoid()
    expected, _ = reference(x, 1 / inverse, 'sigmoid', 4.0)
    weight = torch.randn_like(x)
    ours = torch.autograd.grad((neuron(x) * weight).sum(), [x, neuron.w])
    plain = torch.autograd.grad((expected * weight).sum(), [x, neuron.w])
    torch.testing.assert_close(ours, plain)
    assert ours[1].abs() > 1e-3


def test_membrane_stays_float32_in_half_precision():
    x = input_current()
    half = x.detach().bfloat16().requires_grad_()
    spikes = LIF()(half)
    assert spikes.dtype == torch.bfloat16
    assert torch.equal(spikes.float(), LIF()(half.detach().float()))
    assert lif(half)[1].dtype == torch.float32
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(LIF()(x), LIF()(x.detach()))
    spikes.sum().backward()
    assert half.grad.dtype == torch.bfloat16 and half.grad.isfinite().all()


@pytest.mark.parametrize('neuron', [LIF(), PLIF(), IF()])
def test_compiles_in_one_graph(neuron):
    x = input_current()
    neuron = copy.deepcopy(neuron)
    # aot_eager runs the captured graphs, forward and backward, without a compiler
    compiled = torch.compile(neuron, fullgraph=True, backend='aot_eager')
    expected = neuron(x)
    assert torch.equal(compiled(x), expected)
    ours = torch.autograd.grad(compiled(x).sum(), x)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(expected.sum(), x)[0])


def test_stateless_by_default():
    x = input_current()
    neuron = LIF()
    first = neuron(x)
    neuron(torch.full_like(x, 0.9))
    assert torch.equal(neuron(x), first)


def test_stateful_continues_and_resets():
    x = input_current(T=6).detach()
    neuron = LIF(stateful=True)
    halves = torch.cat([neuron(x[:3]), neuron(x[3:])])
    assert torch.equal(halves, LIF()(x))
    assert not torch.equal(neuron(x), LIF()(x))
    neuron.reset()
    assert torch.equal(neuron(x), LIF()(x))
    assert not neuron.state_dict()
    copy.deepcopy(neuron)  # as EMA does, with live state
    with pytest.raises(ValueError, match=r'\(3, 4, 5\).*SpikeResetHook'):
        neuron(x[:, :2])


def test_empty_batch():
    x = torch.zeros(2, 0, 3, requires_grad=True)
    out = LIF()(x)
    assert out.shape == x.shape
    out.sum().backward()


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='LIF', tau=1.0), 'tau must be above 1'),
        (dict(type='LIF', surrogate='sigmoyd'), "'sigmoyd' is unknown.*atan.*rectangle.*sigmoid"),
        (dict(type='LIF', alpha=-1), 'alpha must be positive, got -1'),
        (dict(type='IF', v_threshold=0.0), 'v_threshold must be above v_reset, got 0.0'),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_neuron(cfg)


def test_build_neuron():
    assert isinstance(build_neuron(dict(type='mmspike.LIF', tau=3.0)), LIF)
    assert isinstance(build_neuron(dict(type='ReLU')), torch.nn.ReLU)
    with pytest.raises(KeyError, match="'LIFF' is unknown.*LIF"):
        build_neuron(dict(type='LIFF'))
    with pytest.raises(KeyError, match='needs a type'):
        build_neuron(dict(tau=2.0))
