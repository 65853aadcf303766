"""What the tests of the counter share."""

import torch
from torch import Tensor, nn

from mmspike.analysis.counter import OpCounter


def count(model: nn.Module, *inputs: Tensor) -> OpCounter:
    with torch.no_grad(), (counter := OpCounter(model)):
        model(*inputs)
    return counter


def only(counter: OpCounter):
    (record,) = counter.layers.values()
    return record


def integer_counts(levels: int, *shape: int) -> Tensor:
    return torch.randint(0, levels + 1, shape).float()
