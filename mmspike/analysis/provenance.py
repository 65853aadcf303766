"""The descent of a tensor's values, which tells what feeds a layer: spikes of which neuron, and of how many steps.

Provenance proposes, values decide: a tensor counts as spikes when operations that only move values lead from a neuron to it
*and* every value is a whole multiple of the neuron's unit (1 / divisor).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from mmspike.models.inspection import column_units

from .op_tables import MOVES, ROUNDS

#: values may be off a whole number of units by this: rounding of float32 and half precision
TOLERANCE = 0.02
#: whole numbers above this are not taken for counts of spikes (images of 0 … 255, sums)
MAX_COUNT = 64


@dataclass(frozen=True)
class Origin:
    """The known descent of a tensor.

    Attributes:
        unit: Value of one spike, or that of each channel; None: computed values, not spikes.
        neurons: Names of the neurons whose spikes these are.
        levels: Largest count that these neurons send in one step (D).
        largest: Whole numbers above this are not taken for counts: products and sums of counts may be larger than one.
        steps: Time steps that are folded into the tensor.
        weight: Whether these are parameters.
    """

    unit: float | tuple[float, ...] | None = None
    neurons: frozenset[str] = frozenset()
    levels: int = 1
    largest: int = MAX_COUNT
    steps: int = 1
    weight: bool = False


COMPUTED = Origin()


def _reduced_time(name: str, args: tuple, steps: int) -> bool:
    """True if an operation takes T away from the front of its first argument: mean or sum over it, or one step of it."""
    x = args[0] if args else None
    if steps == 1 or not isinstance(x, Tensor) or x.dim() == 0 or x.shape[0] != steps:
        return False
    if name in ('mean', 'sum', 'amax', 'max'):
        dims = args[1] if len(args) > 1 else None
        return dims is None or 0 in [d % x.dim() for d in ([dims] if isinstance(dims, int) else dims)]
    return name in ('select', 'unbind') and (args[1] if len(args) > 1 else 0) % x.dim() == 0


def derive(name: str, args: tuple, kwargs: dict, origins: list[Origin | None], module: str) -> Origin | None:
    """Origin of what an operation puts out; None where nothing is known, as of its inputs.

    Args:
        name: Of the operation, as in the tables.
        args, kwargs: Its arguments.
        origins: Those of its tensor arguments, in order.
        module: Name of the innermost module, which is the neuron if this operation fires.
    """
    steps = max((o.steps for o in origins if o), default=1)
    if _reduced_time(name, args, steps):
        steps = 1
    known = [o for o in origins if o is not None]
    if known and len(known) == len(origins) and all(o.weight for o in known):
        return replace(known[0], steps=1)
    if name in ROUNDS:
        return Origin(unit=1.0, neurons=frozenset([module]), steps=steps)
    if not known:
        return None if name in MOVES or not origins else COMPUTED
    if name in MOVES or name in ('add', 'sub'):
        # a sum of spikes is whole as well (residual sums of spikes), if nothing scales it
        units = {o.unit for o in known}
        sums = name in ('add', 'sub') and (len(origins) < 2 or kwargs.get('alpha', 1) != 1)
        # None among the origins: constants, such as the zeros of a buffer into which spikes are copied, or an index
        whole = len(units) == 1 and None not in units and (name in MOVES or len(known) == len(origins)) and not sums
        return _merged(known, next(iter(units)) if whole else None, steps, max if name in MOVES else sum)
    if name in ('mul', 'div') and known[0].unit is not None and len(args) > 1:
        other = args[1]
        if isinstance(other, (int, float)) and other > 0:
            unit = known[0].unit
            if isinstance(unit, tuple):
                return _merged(known, tuple(u * other if name == 'mul' else u / other for u in unit), steps)
            return _merged(known, unit * other if name == 'mul' else unit / other, steps)
        if name == 'mul' and len(known) == len(origins) == 2:
            factors = [o.unit for o in known if isinstance(o.unit, float)]
            if len(factors) == 2:
                return _merged(known, prod(factors), steps, prod)  # spikes that mask spikes
    if name == 'avg_pool2d' and len(args) > 6 and args[6] == 1 and known[0].unit is not None:  # sums over windows
        return replace(known[0], largest=known[0].largest * prod(args[1]), steps=steps)
    return Origin(steps=steps)


def _merged(
    origins: list[Origin],
    unit: float | tuple[float, ...] | None,
    steps: int,
    largest: Callable[[Iterable[int]], int] = max,
) -> Origin:
    if unit is None:
        return Origin(steps=steps)
    neurons = frozenset().union(*(o.neurons for o in origins))
    return Origin(unit, neurons, max(o.levels for o in origins), largest(o.largest for o in origins), steps)


def spike_counts(x: Tensor, origin: Origin | None, channels: int = 1) -> Tensor | None:
    """Counts of spikes in ``x``, as whole floats of its shape, or None if its values are not spikes.

    Without an origin (inputs of the network, such as event frames) whole numbers up to ``MAX_COUNT`` are counts. Negative
    spikes count like positive ones.

    Args:
        channels: The dimension of ``x`` with channels, or with all places of each channel, for units of channels.
    """
    if x.dtype == torch.bool:
        return x.float()
    if (origin is not None and origin.unit is None) or x.is_complex():
        return None
    if origin is not None and origin.weight:
        return None
    unit: Any
    unit, limit = (1.0, MAX_COUNT) if origin is None else (origin.unit, origin.largest)
    if isinstance(unit, tuple):
        if x.dim() < 2 or x.shape[channels] % len(unit):
            return None
        shape = [-1 if d == channels % x.dim() else 1 for d in range(x.dim())]
        x, unit = x / column_units(x.new_tensor(unit), x.shape[channels]).view(shape), 1.0
    # most tensors of floats show themselves at once
    for part in (x.flatten()[:512], x) if x.numel() > 512 else (x,):
        counts = part.float() / unit
        whole = counts.round()
        if part.numel() and not ((counts - whole).abs().max() <= TOLERANCE and whole.abs().max() <= limit):
            return None
    return whole.abs()
