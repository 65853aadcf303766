"""Thresholds and starting membranes of converted networks."""

import torch

from mmspike.deploy.thresholds import best_thresholds, starting_membranes
from mmspike.models.neurons import ClipFloorShift


def test_thresholds_are_those_of_the_smallest_error():
    outlier = torch.cat([torch.rand(999), torch.tensor([10.0])])  # it does not decide
    values = torch.stack([torch.rand(1000), outlier, torch.zeros(1000)])
    for levels in (4, 16):
        thresholds = best_thresholds(values, levels)
        assert 0.85 < thresholds[0] <= 1.0 and thresholds[1] < 9 and thresholds[2] == 1.0

        def error(x, threshold, levels=levels):
            return (ClipFloorShift(levels, threshold)(x) - x).square().mean().item()

        for x, threshold in zip(values[:2], thresholds, strict=False):
            tried = [error(x, t) for t in torch.linspace(0.01, 1, 200).mul(x.max()).tolist()]
            assert error(x, threshold.item()) < 1.02 * min(tried)


def test_starts_are_those_of_the_nearest_means():
    even = torch.linspace(0, 1, 1001, dtype=torch.float64)[None]
    few = torch.cat([torch.zeros(1, 501), torch.full((1, 500), 0.4)], 1).double()  # means of 0, 1/4 and 1/2, by jumps
    x, means = torch.cat([even, few, few]), torch.tensor([0.6, 0.1, 0.2], dtype=torch.float64)
    threshold = torch.tensor([1.2, 0.5, 0.5], dtype=torch.float64)
    neuron = ClipFloorShift(2, channels=3, per_channel=True).double()
    with torch.no_grad():
        neuron.threshold.copy_(threshold)
        neuron.start.copy_(starting_membranes(x, means, threshold, 2))
        found = neuron(x.T[..., None, None]).mean((0, 2, 3))
    torch.testing.assert_close(found, torch.tensor([0.6, 0.125, 0.25], dtype=torch.float64), rtol=0, atol=2e-3)
