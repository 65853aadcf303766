"""The neuron that stands in the place of a ReLU."""

import torch

from mmspike.models.neurons import ClipFloorShift


def test_the_membrane_at_the_start():
    neuron = ClipFloorShift(4, 2.0, channels=2)
    with torch.no_grad():
        neuron.start.copy_(torch.tensor([0.5, -1.0]))
    assert neuron(torch.full((1, 2, 1, 1), 0.8)).flatten().tolist() == [1.5, 0.0]
    assert neuron(torch.tensor([[0.8, 1.8]])).tolist() == [[1.5, 1.0]]


def test_neuron_and_gradients():
    neuron = ClipFloorShift(4, 2.0).double()
    x = torch.tensor([-1.0, 0.2, 0.25, 1.3, 5.0], dtype=torch.float64, requires_grad=True)
    y = neuron(x)
    assert y.tolist() == [0.0, 0.0, 0.5, 1.5, 2.0] and neuron.divisor == 2.0
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    # that of theta k / D with straight-through rounding: (k / D - x / theta) inside, 1 above
    expected = (0 - 0.1) + (0.25 - 0.125) + (0.75 - 0.65) + 1
    torch.testing.assert_close(neuron.threshold.grad.item(), expected)
