"""Weights of one bit."""

import copy

import pytest
import torch
from torch import nn

from mmspike.models.layers import (
    SpikingConv,
    SpikingConvTranspose,
    SpikingLinear,
    binarise,
    binary_weight,
    is_binary,
    write_binary_weights,
)

NEURON = dict(type='SFA', levels=4)


def test_by_definition():
    w = torch.tensor([[1.0, 2.0, 6.0], [-1.0, 0.0, 1.0]])
    expected = torch.tensor([[-2.0, -2.0, 2.0], [-2 / 3, 2 / 3, 2 / 3]])  # rows minus 3 and 0; mean sizes 2 and 2 / 3
    torch.testing.assert_close(binary_weight(w), expected)
    torch.testing.assert_close(binary_weight(w.t(), 1), expected.t())


def test_gradient_is_straight_through():
    """That of the weight minus its mean: the sign passes it on, and the scale has none."""
    w = torch.randn(4, 3, 2, 2, requires_grad=True)
    grad = torch.randn(4, 3, 2, 2)
    binary_weight(w).backward(grad)
    torch.testing.assert_close(w.grad, grad - grad.mean((1, 2, 3), keepdim=True))


@pytest.mark.parametrize(
    ('unit', 'plain', 'x', 'channels'),
    [
        (lambda **k: SpikingConv(6, 4, 3, 2, neuron=NEURON, **k), 'conv', (2, 3, 6, 5, 5), 0),
        (lambda **k: SpikingConvTranspose(6, 4, 2, 2, neuron=NEURON, **k), 'conv', (2, 3, 6, 5, 5), 1),
        (lambda **k: SpikingLinear(6, 4, neuron=NEURON, **k), 'fc', (2, 3, 6), 0),
    ],
)
def test_units(unit, plain, x, channels):
    """A binary unit is the plain one with two-valued weights; its weight learns, and a plain checkpoint fits."""
    binary, ordinary = unit(binary=True), unit()
    ordinary.load_state_dict(binary.state_dict())
    layer = getattr(ordinary, plain)
    layer.weight.data.copy_(binary_weight(layer.weight.data, channels))
    assert all(len(w.unique()) == 2 for w in layer.weight.unbind(channels))
    x = torch.randn(x) * 2
    assert is_binary(getattr(binary, plain)) and not is_binary(layer)
    torch.testing.assert_close(binary(x), ordinary(x))
    binary(x).square().sum().backward()
    assert getattr(binary, plain).weight.grad.any()


def test_a_model_and_back():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 4, 2), nn.Linear(5, 5))
    before = copy.deepcopy(model.state_dict())
    binarise(model)
    assert [is_binary(m) for m in model] == [True, False, True, True]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    write_binary_weights(model)
    assert not any(map(is_binary, model)) and type(model[0]) is nn.Conv2d
    torch.testing.assert_close(model(x), expected)


def test_it_learns():
    """One bit a weight is enough to tell which of two inputs is larger."""
    unit = SpikingLinear(2, 2, neuron=dict(type='SFA', levels=4, divisor=1), binary=True)
    unit.fc.weight.data.copy_(torch.tensor([[-0.1, 0.1], [0.1, -0.1]]))  # the wrong way round
    unit.fc.bias.data.zero_()
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 2.0], [1.0, 4.0]]).unsqueeze(0)
    label = x[0].argmax(1)
    assert (unit(x)[0].argmax(1) != label).all()
    optimizer = torch.optim.SGD(unit.parameters(), 0.1)
    for _ in range(20):
        loss = nn.functional.cross_entropy(unit(x)[0], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (unit(x)[0].argmax(1) == label).all()
