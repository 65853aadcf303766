"""Thresholds with the smallest error on values that were seen, and the membranes at the start by which means are kept."""

import torch
from torch import Tensor


def best_thresholds(values: Tensor, levels: int, candidates: int = 32, finer: int = 16) -> Tensor:
    """The threshold of each channel with the smallest mean square error of its quantised values.

    Args:
        values: Of each channel [C, n], not negative.
        levels: D.
        candidates: Thresholds up to the largest value that are tried.
        finer: Thresholds between the neighbours of the best one that are tried then.

    Returns:
        [C]; 1 for channels that are never active.
    """
    largest = values.amax(1, keepdim=True)
    active = largest > 0
    largest = torch.where(active, largest, 1.0)
    best, step = largest, largest / candidates
    for shares in (torch.arange(1, candidates + 1) - candidates, torch.linspace(-1, 1, finer + 1)):
        tried = best + shares.to(values.dtype) * step  # [C, shares]
        errors = torch.stack([_error(values, column[:, None], levels) for column in tried.clamp(min=step / 4).unbind(1)], 1)
        best = tried.gather(1, errors.argmin(1, keepdim=True))
    return torch.where(active, best.clamp(min=step / 4), 1.0)[:, 0]


def _error(values: Tensor, threshold: Tensor, levels: int) -> Tensor:
    unit = threshold / levels
    return (((values / unit).clamp(0, levels) + 0.5).floor() * unit - values).square().mean(1)


def starting_membranes(x: Tensor, means: Tensor, threshold: Tensor, levels: int, halvings: int = 12) -> Tensor:
    """The starting membranes [C], within the thresholds, with which the outputs have means nearest to these; found by halves.

    Inputs that are sums of a few spikes have few values, and the mean then changes by jumps.

    Args:
        x: Inputs of a neuron [C, places].
        means: Of each channel [C].
        threshold: One, or one for each channel [C].
        levels: D.
    """
    unit = (threshold / levels).expand_as(means)[:, None]

    def reached(start: Tensor) -> Tensor:
        return ((x + start[:, None]) / unit).clamp(0, levels).add(0.5).floor().mean(1) * unit[:, 0]

    low, high = -threshold.expand_as(means), threshold.expand_as(means)
    for _ in range(halvings):
        middle = (low + high) / 2
        less = reached(middle) < means
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return torch.where((reached(low) - means).abs() < (reached(high) - means).abs(), low, high)
