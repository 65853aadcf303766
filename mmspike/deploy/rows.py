"""The rows of modules that a network runs in order, as places where each can be read and replaced."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mmspike.models.layers import MERGING, Chain, DropPath, LayerScale
from mmspike.models.layers.chain import takes_time
from mmspike.models.neurons import BaseNeuron

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
#: what multiplies with weights
LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class Place:
    """The place of a module: the child ``name`` of ``owner``."""

    owner: nn.Module
    name: str

    @property
    def module(self) -> nn.Module:
        return self.owner._modules[self.name]

    def put(self, module: nn.Module) -> None:
        self.owner._modules[self.name] = module


def places(owner: nn.Module, names: Sequence[str] | None = None) -> list[Place]:
    """The children of these names, by default all, in order; chains are opened, and what does nothing is left out."""
    row: list[Place] = []
    for name in owner._modules if names is None else names:
        child = owner._modules.get(name)
        if isinstance(child, Chain):
            row += places(child)
        elif child is not None and not isinstance(child, (nn.Identity, DropPath)):
            row.append(Place(owner, name))
    return row


def rows_of(module: nn.Module) -> list[list[Place]]:
    """The rows of a module: all of a :class:`Chain`, and of any other the children named in its ``rows``."""
    if isinstance(module, Chain):
        return [places(module)]
    return [places(module, names) for names in names_of(module)]


def names_of(module: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The names of the rows that a module has by its ``rows``; whatever else it calls so is none."""
    rows = getattr(module, 'rows', ())
    return rows if isinstance(rows, tuple) and all(isinstance(row, tuple) for row in rows) else ()


def reader_of(row: Sequence[Place]) -> int | None:
    """Position in a row of the linear map that reads what comes in, through pools or directly; None if something else does."""
    for i, place in enumerate(row):
        if isinstance(place.module, (*LINEAR, *MERGING)):
            return i
        if not is_window(place.module):
            return None
    return None


def is_window(module: nn.Module) -> bool:
    """True for a pool whose every window is divided by the same number, or by none."""
    if isinstance(module, nn.AvgPool2d):
        return module.count_include_pad and not module.ceil_mode
    return isinstance(module, nn.MaxPool2d)


def window_of(pool: nn.AvgPool2d) -> int:
    """Elements that a window sums up."""
    size = pool.kernel_size
    return prod(size) if isinstance(size, tuple) else size**2


def acts_as_neuron(module: nn.Module) -> bool:
    """A neuron, or whatever a neuron config made that is not a neuron of ours, such as a ReLU."""
    elementwise = takes_time(module) is True and not module._modules and not isinstance(module, LayerScale)
    return isinstance(module, BaseNeuron) or (elementwise and not isinstance(module, LINEAR))
