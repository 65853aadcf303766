"""Counts 0 to D as D binary steps: what an integer-spiking network does on hardware that knows spikes only."""

from collections.abc import Sequence
from copy import deepcopy

from torch import nn

from mmspike.models.neurons import BaseNeuron

from .attention import FusedAggregation, FusedAttention, FusedDualAttention
from .layers import Accumulate, BinarySteps
from .masks import FusedMaskProduct, FusedSampling
from .rows import LINEAR, NORMS, Place, acts_as_neuron, places, reader_of, rows_of, window_of


def expand(model: nn.Module, binary: bool = True) -> nn.Module:
    """A copy of a fused network in which every neuron sends binary spikes, T * D steps of them.

    A count k becomes D steps of which k fire; the linear map that reads them adds up over the steps before the next neuron
    sees its membrane, and so do the products of an attention. Weights are added up exactly (:class:`Accumulate`), so that the
    outputs equal those of the integer network bit by bit.

    Args:
        model: From :func:`mmspike.deploy.fuse`.
        binary: False leaves the counts whole: the same network in integers, to compare with.

    Raises:
        ValueError: A neuron that weights read sends no whole counts (a ReLU), a norm is left between weights and neuron, or no
            row says what reads a neuron of counts.

    Example:
        >>> import torch
        >>> from mmspike.deploy import expand, fuse
        >>> from mmspike.models.layers import MLP
        >>> block = MLP(8, 2, dict(type='SFA', levels=4), dict(type='BN')).double()
        >>> network, x = fuse(block), torch.randn(1, 2, 8, 5, 5, dtype=torch.float64)
        >>> torch.equal(expand(network)(x), expand(network, binary=False)(x))
        True
    """
    network = _Expansion(deepcopy(model), binary)
    for module in list(network.model.modules()):
        for row in rows_of(module):
            network.expand(row)
        if isinstance(module, FusedAttention):
            network.expand_attention(module)
        elif isinstance(module, FusedAggregation):
            network.expand_products(module, ('neuron', 'q_conv'), ('neuron', 'k_conv'), ('k_neuron', 'dwconv'))
        elif isinstance(module, FusedSampling):
            network.fire_in_steps(places(module, ('modulation',))[-1])
        elif isinstance(module, FusedMaskProduct):
            network.fire_in_steps(Place(module, 'neuron'))
        elif isinstance(module, FusedDualAttention):
            module.largest = network.levels(Place(module, 'neuron')), network.levels(Place(module, 'attn_neuron'))
            network.expand_products(module, ('neuron', 'dual_conv'))
    if not any(isinstance(m, Accumulate) for m in network.model.modules()):
        raise ValueError('nothing in the model can be expanded: call fuse() first, on a model with spiking layers of mmspike')
    if binary:
        _refuse_counts(network.model)
    return network.model


class _Expansion:
    """Changes a network in place, with the names of its modules for messages."""

    def __init__(self, model: nn.Module, binary: bool) -> None:
        self.model = model
        self.binary = binary
        self.names = {module: name for name, module in model.named_modules()}

    def name(self, place: Place) -> str:
        return f'{self.names[place.owner]}.{place.name}'.lstrip('.')

    def levels(self, place: Place) -> int:
        """Largest count of a neuron.

        Raises:
            ValueError: It sends no whole counts.
        """
        neuron = place.module.neuron if isinstance(place.module, BinarySteps) else place.module
        if isinstance(neuron, BaseNeuron) and getattr(neuron, 'divisor', 1) != 1:
            raise ValueError(f'{self.name(place)} ({neuron}) sends spikes of another value than 1: call fuse() first')
        if not isinstance(neuron, BaseNeuron):
            raise ValueError(
                f'{self.name(place)} ({neuron}) sends no whole counts of spikes: it cannot be expanded into binary steps'
            )
        return getattr(neuron, 'levels', 1)

    def fire_in_steps(self, place: Place) -> int:
        levels = self.levels(place)
        if self.binary and levels > 1 and not isinstance(place.module, BinarySteps):
            place.put(BinarySteps(place.module))
        return levels

    def accumulate(self, place: Place, levels: int, window: int = 1) -> None:
        """Let a linear map read counts of ``levels``, or sums of them over a window."""
        place.put(Accumulate(place.module, levels if self.binary else 1, levels * window))

    def expand(self, row: Sequence[Place]) -> None:
        """A row: neurons that linear maps read, through pools or directly."""
        for i, place in enumerate(row):
            at = reader_of(row[i + 1 :]) if acts_as_neuron(place.module) else None
            if at is None:
                continue
            reader, behind = row[i + 1 + at], row[i + 2 + at : i + 3 + at]
            levels = self.fire_in_steps(place)
            if behind and isinstance(behind[0].module, NORMS):
                raise ValueError(
                    f'{self.name(reader)} is followed by {behind[0].module} and cannot be expanded: fuse its norm, '
                    'or train with batch norms'
                )
            # a step of a sum over windows has whole numbers up to the window; that of a maximum is binary, like its input
            pools = [p.module for p in row[i + 1 : i + 1 + at]]
            self.accumulate(reader, levels, max((window_of(p) for p in pools if isinstance(p, nn.AvgPool2d)), default=1))

    def expand_products(self, module: nn.Module, *readers: tuple[str, str]) -> None:
        """An attention: pairs of a neuron and what reads it; the spikes of its other neurons meet in products."""
        # what proj_neuron sends goes into a shortcut
        neurons = [n for n, m in module._modules.items() if m is not None and acts_as_neuron(m) and n != 'proj_neuron']
        levels = {name: self.fire_in_steps(Place(module, name)) for name in neurons}
        for neuron, reader in readers:
            self.accumulate(self._linear(module, reader), levels[neuron])

    def _linear(self, module: nn.Module, name: str) -> Place:
        row = places(module, (name,))
        if len(row) > 1 or not isinstance(row[0].module, LINEAR):
            raise ValueError(
                f'{self.name(Place(module, name))} is {module._modules[name]} and cannot be expanded: fuse its norm, or train '
                'with batch norms'
            )
        return row[0]

    def expand_attention(self, module: FusedAttention) -> None:
        # masked values are products of two counts
        largest = self.levels(Place(module, 'attn_neuron'))
        if module.mask:
            largest *= self.levels(Place(module, f'{module.mask}_neuron'))
        # without a neuron in front, q, k and v read the sums of a shortcut: those stay whole
        weights = [name for name in ('q_conv', 'k_conv', 'v_conv') if getattr(module, name) is not None]
        readers = () if module.neuron is None else tuple(('neuron', name) for name in weights)
        self.expand_products(module, *readers)
        self.accumulate(self._linear(module, 'proj_conv'), largest)
        module.exact = True


def _refuse_counts(model: nn.Module) -> None:
    """Raise ValueError if a neuron still sends counts: one in no row."""
    inner = {id(m.neuron) for m in model.modules() if isinstance(m, BinarySteps)}
    left = [
        f'{name} ({type(m).__name__}, {m.levels} levels)'
        for name, m in model.named_modules()
        if isinstance(m, BaseNeuron) and getattr(m, 'levels', 1) > 1 and id(m) not in inner
    ]
    if left:
        raise ValueError(f'no rule says what reads the counts of {", ".join(left)}: these cannot become binary steps')
