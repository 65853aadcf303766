import pytest
import torch

from mmspike.models.neurons import ILIF, NILIF, SFA, build_neuron, sfa


@pytest.mark.parametrize('levels', [1, 2, 4, 8])
@pytest.mark.parametrize('norm', [None, 1])
def test_value_and_gradient_window(levels, norm):
    """Halves to even; the window of the gradient includes both ends."""
    D, N = levels, norm or levels
    x = torch.tensor([-1.0, -1e-6, 0.0, 0.4, 0.5, 0.6, D - 0.5, D, D + 1e-3, D + 5.0], requires_grad=True)
    for training in (True, False):
        out = SFA(levels, norm).train(training)(x)
        expected = [min(max(round(v), 0), D) / N for v in x.tolist()]
        assert out.tolist() == pytest.approx(expected, abs=0)
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert grad.tolist() == [1 / N if 0 <= v <= D else 0 for v in x.tolist()]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype):
    x = (torch.randn(2, 3, 50) * 4).to(dtype).requires_grad_()
    out = sfa(x, 4, 4)
    assert out.dtype == dtype
    assert torch.equal(out.double() * 4, x.double().clamp(0, 4).round())
    out.sum().backward()
    assert x.grad.dtype == dtype
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(sfa(x.detach()), out.detach())


def test_input_is_left_alone():
    x = torch.randn(2, 3, 50)
    before = x.clone()
    sfa(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize('neuron', [SFA(4), ILIF(), NILIF()])
def test_compiles_in_one_graph(neuron):
    x = (torch.randn(3, 2, 40) * 3).requires_grad_()
    compiled = torch.compile(neuron, fullgraph=True, backend='aot_eager')
    assert torch.equal(compiled(x), neuron(x))
    ours = torch.autograd.grad(compiled(x).square().sum(), x)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(neuron(x).square().sum(), x)[0])


def test_integer_lif_equals_its_equations():
    x = (torch.randn(4, 3, 30, dtype=torch.float64) * 3).requires_grad_()
    left, counts = torch.zeros(3, 30, dtype=torch.float64), []
    grads = []
    for t in range(4):
        h = 0.25 * left + x[t]
        counts.append(h.detach().clamp(0, 4).round())
        left = h - counts[-1]
        grads.append(((h >= 0) & (h <= 4)).double())
    ilif, nilif = ILIF(levels=4, beta=0.25), NILIF(levels=4, beta=0.25)
    assert torch.equal(ilif(x), torch.stack(counts))
    assert torch.equal(nilif(x), torch.stack(counts) / 4)
    # d s[t] / d x[u] = window[t] * 0.25 ** (t - u): the reset is detached
    weight = torch.randn_like(x)
    (grad,) = torch.autograd.grad((ilif(x) * weight).sum(), x)
    expected = [sum(weight[t] * grads[t] * 0.25 ** (t - u) for t in range(u, 4)) for u in range(4)]
    torch.testing.assert_close(grad, torch.stack(expected))


def test_integer_lif_keeps_state_if_asked():
    x = torch.randn(6, 3, 30) * 3
    neuron = ILIF(stateful=True)
    assert torch.equal(torch.cat([neuron(x[:2]), neuron(x[2:])]), ILIF()(x))
    neuron.reset()
    assert torch.equal(neuron(x), ILIF()(x))
    half = x.bfloat16()
    assert torch.equal(ILIF()(half).float(), ILIF()(half.float()))


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='SFA', levels=0), 'levels must be a positive integer.*got 0'),
        (dict(type='SFA', levels=2.5), 'got 2.5'),
        (dict(type='SFA', divisor=0), 'divisor must be positive, got 0'),
        (dict(type='NILIF', beta=1.5), r'beta must be in \[0, 1\], got 1.5'),
    ],
)
def test_bad_arguments(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_neuron(cfg)


def test_halves_up():
    """Halves go up, and the window of the gradient is open at both ends."""
    x = torch.tensor([-1.0, 0.0, 0.49, 0.5, 1.5, 2.5, 3.5, 4.0, 5.0], requires_grad=True)
    out = sfa(x, 4, 2, rounding='up')
    assert out.tolist() == [0, 0, 0, 0.5, 1, 1.5, 2, 2, 2]
    out.sum().backward()
    assert x.grad.tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0]
    assert torch.equal(SFA(4, 2, rounding='up')(x), out)


def test_rounding_is_known():
    with pytest.raises(ValueError, match="'even' or 'up', got 'down'"):
        SFA(rounding='down')


def test_the_old_name_of_the_divisor():
    with pytest.warns(FutureWarning, match="'norm' is deprecated .*: use divisor"):
        assert build_neuron(dict(type='SFA', levels=4, norm=2)).divisor == 2
    with (
        pytest.raises(ValueError, match='norm=2 is the old name of divisor, which is 1: give divisor alone'),
        pytest.warns(FutureWarning),
    ):
        SFA(divisor=1, norm=2)


@pytest.mark.parametrize('neuron', [ILIF(levels=3), NILIF(levels=3)])
def test_one_step_from_rest_is_the_first_of_several(neuron):
    x = torch.randn(1, 40) * 3
    alone, several = (x.clone().requires_grad_() for _ in range(2))
    spikes, first = neuron(alone), neuron(torch.cat([several, several]))[:1]
    assert torch.equal(spikes, first) and spikes.max() == 3 / neuron.divisor
    weights = torch.randn(1, 40)
    (spikes * weights).sum().backward()
    (first * weights).sum().backward()
    assert torch.equal(alone.grad, several.grad)
    assert neuron(x.half()).dtype == torch.half
