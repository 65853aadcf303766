import pytest
import torch

from mmspike.models.neurons import build_neuron


def test_output_is_the_membrane_before_the_reset():
    neuron = build_neuron(dict(type='PLIAF', tau=2.0))
    x = torch.tensor([1.0, 2.0, -4.0, 3.0]).view(4, 1)
    # h: 0.5, 1.25 (reset), -2, 0.5
    assert neuron(x).flatten().tolist() == [0.5, 1.25, 0.0, 0.5]


def test_fires_where_plif_does():
    torch.manual_seed(0)
    x = torch.randn(6, 3, 50) + 0.5
    analogue = build_neuron(dict(type='PLIAF', tau=3.0))(x)
    spikes = build_neuron(dict(type='PLIF', tau=3.0))(x)
    assert spikes.any()
    assert torch.equal((analogue >= 1).float(), spikes)


def test_gradients_are_those_of_finite_differences():
    """Away from the threshold the function is smooth: no surrogate takes part."""
    torch.manual_seed(0)
    neuron = build_neuron(dict(type='PLIAF')).double()
    x = torch.randn(3, 2, 4).double().requires_grad_()
    # a membrane that is reset passes nothing on, and the derivative of the step is left out: exact between the jumps
    assert torch.autograd.gradcheck(neuron, (x,), eps=1e-7)
    neuron(x).sum().backward()
    with torch.no_grad():
        before = neuron(x).sum()
        neuron.w += 1e-7
        difference = (neuron(x).sum() - before) / 1e-7
    torch.testing.assert_close(neuron.w.grad, difference, rtol=1e-4, atol=1e-6)


def test_state_and_half_precision():
    neuron = build_neuron(dict(type='PLIAF', stateful=True))
    x = torch.rand(4, 2, 8)
    whole = build_neuron(dict(type='PLIAF'))(x)
    assert torch.equal(torch.cat([neuron(x[:2]), neuron(x[2:])]), whole)
    neuron.reset()
    half = neuron(x.half())
    assert half.dtype == torch.half and neuron.v.dtype == torch.float32


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [(dict(tau=1.0), 'tau must be above 1'), (dict(v_threshold=0.0), 'v_threshold must be above v_reset')],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_neuron(dict(type='PLIAF', **kwargs))
