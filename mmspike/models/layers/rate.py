"""Firing rates as running statistics."""

import torch
from torch import Tensor, nn


class RunningRate(nn.Module):
    """Mean of the spikes of each head, as a batch norm keeps its statistics: moving in training, fixed in evaluation.

    The first batch sets it. A head that never fired has the rate 1, so that one may divide by it.

    Args:
        num_heads: Heads.
        momentum: Weight of a new batch.

    Shape:
        Spikes [T, B, heads, ..., ...] -> rates [heads, 1, 1] of the same dtype, without gradient.
    """

    def __init__(self, num_heads: int, momentum: float = 0.001) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer('running_rate', torch.zeros(num_heads, 1, 1))

    def forward(self, spikes: Tensor) -> Tensor:
        rate = self.running_rate
        if self.training and spikes.numel():
            batch = spikes.detach().mean((0, 1, 3, 4), dtype=rate.dtype).view_as(rate)
            rate.copy_(torch.where(rate > 0, rate * (1 - self.momentum) + batch * self.momentum, batch))
        return torch.where(rate > 0, rate, torch.ones_like(rate)).to(spikes.dtype)
