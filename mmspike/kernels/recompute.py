"""Tensors that the backward pass computes anew, so that they need not be saved for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .layout import unfold
from .sparse import Bits, unpack


class Recompute(NamedTuple):
    """``compute(*tensors)`` gives a tensor again, bit by bit; the tensors have no gradient."""

    compute: Callable[..., Tensor]
    tensors: tuple[Tensor | None, ...]

    @property
    def made(self) -> bool:
        """What it gives is a tensor of its own, and not one that was kept."""
        return self.compute is not _same


class Signal(NamedTuple):
    """A tensor on its way through a row of modules, and what is known of it.

    Attributes:
        x: The tensor.
        divisor: It holds whole counts from 0 to 255 over this number; None: it does not, or nobody knows.
        counts: They, as bytes, where they are at hand.
        anew: How to compute it in the backward pass; None: it has to be saved.
        bits: It, of 0 and 1, as bits, where they are at hand.
    """

    x: Tensor
    divisor: float | None = None
    counts: Tensor | None = None
    anew: Recompute | None = None
    bits: Bits | None = None

    def back(self) -> Recompute:
        """The recomputation of the tensor: anew where that is known, else kept."""
        return Recompute(_same, (self.x.detach(),)) if self.anew is None else self.anew


def _same(x: Tensor) -> Tensor:
    return x


def derived(function: Callable[..., Tensor], *parents: Recompute) -> Recompute:
    """The recomputation of ``function`` of what the parents give."""

    parts = [(parent.compute, len(parent.tensors)) for parent in parents]  # not the tensors, which the graph lets go earlier

    def compute(*tensors: Tensor | None) -> Tensor:
        values, rest = [], tensors
        for of_parent, n in parts:
            values.append(of_parent(*rest[:n]))
            rest = rest[n:]
        return function(*values)

    return Recompute(compute, tuple(t for parent in parents for t in parent.tensors))


def kept_bits(bits: Bits, dtype: torch.dtype, T: int) -> Recompute:
    """Spikes [T, B, ...] that are kept as bits until they come back."""
    return Recompute(partial(_of_bits, bits.channels, dtype, T), (bits.words,))


def _of_bits(channels: int, dtype: torch.dtype, T: int, words: Tensor) -> Tensor:
    return unfold(unpack(words, channels, dtype), T)
