"""Weights of 2 to 8 bits with learned steps."""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmspike.deploy import fuse
from mmspike.deploy.int8_weights import exact_scales, quantize_weight
from mmspike.models.checkpoints import mismatch
from mmspike.models.layers import (
    MLP,
    RepConv,
    SpikingConv,
    SpikingConvTranspose,
    SpikingLinear,
    rounded_weight,
    set_weight_bits,
    used_weight,
    weight_bits,
    write_low_bit_weights,
)
from mmspike.models.layers.low_bit import best_step

NEURON = dict(type='SFA', levels=4)
UNITS = [
    (lambda **k: SpikingConv(6, 4, 3, 2, neuron=NEURON, **k), 'conv', (2, 3, 6, 5, 5), 0),
    (lambda **k: SpikingConvTranspose(6, 4, 2, 2, neuron=NEURON, **k), 'conv', (2, 3, 6, 5, 5), 1),
    (lambda **k: SpikingLinear(6, 4, neuron=NEURON, **k), 'fc', (2, 3, 6), 0),
]


def test_value_and_gradients_by_hand():
    """Steps of 0.5, 3 bits: -4 to 3. Weights of -2.6, -0.6, 0.1, 0.4 and 1.8 steps, and one clipped at each end."""
    weight = torch.tensor([[-4.8, -2.6, -0.6, 0.1, 0.4, 1.8, 3.9]]).double() * 0.5
    step = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
    weight.requires_grad_()
    y = rounded_weight(weight, step, 3)
    assert (y / 0.5).tolist() == [[-4, -3, -1, 0, 0, 2, 3]]
    y.sum().backward()
    assert weight.grad.tolist() == [[0, 1, 1, 1, 1, 1, 0]]
    # round(v) - v inside, the clipped number outside, times 1 / sqrt(7 * 3)
    expected = (-4 + (-3 + 2.6) + (-1 + 0.6) - 0.1 - 0.4 + 0.2 + 3) / 21**0.5
    torch.testing.assert_close(step.grad.item(), expected)


def test_the_step_that_a_layer_begins_with():
    weight = torch.cat([torch.full((1, 8), 0.3), torch.randn(1, 8), torch.zeros(1, 8)])
    step = best_step(weight, 4)
    assert step[2] == 1 and (step > 0).all()
    assert (rounded_weight(weight[:1], step[:1, None], 4) - 0.3).abs().max() < 1e-6
    for factor in (0.5, 1.5):
        worse = (rounded_weight(weight, factor * step[:, None], 4) - weight).square().sum(1)
        assert (worse >= (rounded_weight(weight, step[:, None], 4) - weight).square().sum(1)).all()


@pytest.mark.parametrize(('unit', 'plain', 'shape', 'channels'), UNITS)
def test_units(unit, plain, shape, channels):
    """A unit is the plain one with rounded weights; weights and steps learn; a plain checkpoint fits."""
    low, ordinary = unit(weight_bits=3), unit()
    with torch.no_grad():
        getattr(ordinary, plain).weight.mul_(3)
    assert mismatch(low, ordinary.state_dict()).missing == {}
    low.load_state_dict(ordinary.state_dict())
    layer, reference = getattr(low, plain), getattr(ordinary, plain)
    assert weight_bits(layer) == 3 and weight_bits(reference) is None and used_weight(reference) is None
    x = torch.randn(shape) * 2
    y = low(x)
    step = best_step(reference.weight, 3, channels)
    torch.testing.assert_close(layer.weight_step.detach(), step)
    with torch.no_grad():
        reference.weight.copy_(used_weight(layer))
    assert all(len(w.unique()) <= 8 for w in reference.weight.unbind(channels))
    assert torch.equal(y, ordinary(x))
    y.square().sum().backward()
    assert layer.weight.grad.any() and layer.weight_step.grad.any()
    # called without the kernels, which a hook prevents
    handle = layer.register_forward_hook(lambda *args: None)
    torch.testing.assert_close(low(x), y)
    handle.remove()
    # and through a checkpoint of its own
    with torch.no_grad():
        layer.weight_step.mul_(1.3)
    again = unit(weight_bits=3)
    again.load_state_dict(low.state_dict(), strict=True)
    assert torch.equal(again(x), low(x)) and not torch.equal(low(x), y)


def test_one_bit_is_binary_and_other_numbers_are_named():
    one = SpikingConv(4, 4, neuron=NEURON, weight_bits=1)
    assert weight_bits(one.conv) == 1 and weight_bits(SpikingConv(4, 4, neuron=NEURON, binary=True).conv) == 1
    with pytest.raises(ValueError, match='weight_bits must be None, 1 or 2 to 8, got 9'):
        SpikingConv(4, 4, neuron=NEURON, weight_bits=9)
    with pytest.raises(ValueError, match='binary=True is one bit a weight, and weight_bits=4'):
        SpikingConv(4, 4, neuron=NEURON, weight_bits=4, binary=True)


def test_a_model_and_back():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 4, 2), nn.Linear(5, 5))
    before = copy.deepcopy(model.state_dict())
    assert set_weight_bits(model, 4, keep=['0']) == ['1', '2', '3']
    new = {f'{i}.weight_step' for i in (1, 2, 3)}
    assert set(model.state_dict()) == set(before) | new
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    write_low_bit_weights(model)
    assert set(model.state_dict()) == set(before) and type(model[2]) is nn.ConvTranspose2d
    assert torch.equal(model(x), expected)
    with pytest.raises(ValueError, match=r"keep names \['head'\]"):
        set_weight_bits(model, 4, keep=['head'])
    rep = nn.Sequential(RepConv(4, dict(type='BN')))
    with pytest.raises(ValueError, match=r'0 \(RepConv\) merges layers into one'):
        set_weight_bits(rep, 4)
    assert set_weight_bits(rep, 4, keep=['0']) == []


@pytest.mark.parametrize('bits', [2, 4, 8])
def test_folded_weights_are_whole_numbers_of_a_step(bits):
    """Norms and divisors scale channels, so that integer files read the trained numbers exactly."""
    torch.manual_seed(bits)
    block = MLP(8, 4, NEURON, dict(type='BN'))
    for norm in (block.fc1.norm, block.fc2.norm):
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    set_weight_bits(block, bits)
    block.eval()
    x = torch.randn(1, 2, 8, 4, 4)
    y = block(x)
    network = fuse(block)
    torch.testing.assert_close(network(x), y, rtol=1e-4, atol=1e-4)
    for fc, before in ((network.fc1, block.fc1), (network.fc2, block.fc2)):
        weight = fc.conv.weight.numpy()
        numbers, scales = quantize_weight(weight, 0)
        np.testing.assert_allclose(numbers * scales[:, None, None, None], weight, rtol=1e-5)
        conv = before.conv
        trained = (used_weight(conv) / conv.weight_step.view(-1, 1, 1, 1)).round() * before.norm.weight.sign().view(-1, 1, 1, 1)
        for row, expected in zip(numbers, trained.detach().numpy(), strict=True):
            common = np.gcd.reduce(expected.astype(int).ravel())  # fewer numbers may do
            np.testing.assert_array_equal(row, expected / max(common, 1))


def test_ordinary_weights_have_no_exact_scale():
    rows = np.random.default_rng(0).normal(size=(3, 30))
    assert not exact_scales(rows).any()
    assert exact_scales(np.array([[0.0, 0.0], [0.5, -64.0], [0.5, 64.0]])).tolist() == [0, 0.5, 0]


def test_it_learns():
    """Two bits a weight are enough to tell which of two inputs is larger."""
    unit = SpikingLinear(2, 2, neuron=dict(type='SFA', levels=4, divisor=1), weight_bits=2)
    unit.fc.weight.data.copy_(torch.tensor([[-0.1, 0.1], [0.1, -0.1]]))  # the wrong way round
    unit.fc.bias.data.zero_()
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0], [3.0, 2.0], [1.0, 4.0]]).unsqueeze(0)
    label = x[0].argmax(1)
    assert (unit(x)[0].argmax(1) != label).all()
    optimizer = torch.optim.SGD(unit.parameters(), 0.5)
    for _ in range(20):
        loss = nn.functional.cross_entropy(unit(x)[0], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (unit(x)[0].argmax(1) == label).all()


def test_a_whole_network_from_a_config():
    vgg = dict(type='mmspike.SpikingVGG', arch=dict(dims=(4, 6, 8), depths=(2, 1, 1)), T=1)
    model = MODELS.build(dict(type='mmspike.LowBitModel', model=vgg, bits=4))
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [weight_bits(m) for m in convs] == [None, 4, 4, 4]
    own = MODELS.build(dict(vgg, weight_bits=4))
    own.load_state_dict(model.state_dict())
    assert torch.equal(own(torch.ones(1, 3, 32, 32))[-1], model(torch.ones(1, 3, 32, 32))[-1])
