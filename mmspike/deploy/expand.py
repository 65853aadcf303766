"""Counts 0 to D as D binary steps: what an integer-spiking network does on hardware that knows spikes only."""

from copy import deepcopy

from torch import nn

from mmspike.models.neurons import BaseNeuron

from .fuse import readers_of
from .layers import (
    Accumulate,
    BinarySteps,
    FusedAggregation,
    FusedAttention,
    FusedDualAttention,
    OverTime,
    SpikeFed,
    SumPool,
)


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
            rule knows what reads a neuron of counts.
    """
    model = deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, SpikeFed):
            # a step of a sum over windows has whole numbers up to the window; that of a maximum is binary, like its input
            window = module.pool.window if isinstance(module.pool, SumPool) else 1
            _expand(module, name, 'neuron', ['linear'], binary, window)
        elif isinstance(module, FusedAttention):
            _expand_attention(module, name, binary)
        elif isinstance(module, FusedAggregation):
            _expand(module, name, 'neuron', ['q_conv', 'k_conv'], binary)
            _expand(module, name, 'q_neuron', [], binary)
            _expand(module, name, 'k_neuron', ['dwconv'], binary)
            _expand(module, name, 'attn_neuron', [], binary)
        elif isinstance(module, FusedDualAttention):
            module.largest = _levels(module, name, 'neuron'), _levels(module, name, 'attn_neuron')
            _expand(module, name, 'neuron', ['dual_conv'], binary)
            _expand(module, name, 'attn_neuron', [], binary)
        else:
            for neuron, readers in readers_of(module):
                _expand(module, name, neuron, readers, binary)
    if not any(isinstance(m, Accumulate) for m in model.modules()):
        raise ValueError(
            'nothing in the model can be expanded: call fuse() first, on a model of classes that fuse() has rules for'
        )
    if binary:
        _refuse_counts(model)
    return model


def _levels(owner: nn.Module, name: str, attribute: str) -> int:
    """Largest count of a neuron.

    Raises:
        ValueError: It sends no whole counts.
    """
    neuron = getattr(owner, attribute)
    if not isinstance(neuron, BaseNeuron) or getattr(neuron, 'norm', 1) != 1:
        raise ValueError(
            f'{name}.{attribute} ({neuron}) sends no whole counts of spikes: it cannot be expanded into binary steps'
        )
    return getattr(neuron, 'levels', 1)


def _refuse_counts(model: nn.Module) -> None:
    """Raise ValueError if a neuron still sends counts: one of a class that :func:`fuse` has no rule for."""
    inner = {id(m.neuron) for m in model.modules() if isinstance(m, BinarySteps)}
    left = [
        f'{name} ({type(m).__name__}, {m.levels} levels)'
        for name, m in model.named_modules()
        if isinstance(m, BaseNeuron) and getattr(m, 'levels', 1) > 1 and id(m) not in inner
    ]
    if left:
        raise ValueError(f'no rule says what reads the counts of {", ".join(left)}: these cannot become binary steps')


def _expand(owner: nn.Module, name: str, attribute: str, readers: list[str], binary: bool, window: int = 1) -> None:
    levels = _levels(owner, name, attribute)
    if binary and levels > 1:
        setattr(owner, attribute, BinarySteps(getattr(owner, attribute)))
    for reader in readers:
        _accumulate(owner, name, reader, levels if binary else 1, levels * window)


def _accumulate(owner: nn.Module, name: str, reader: str, steps: int, largest: int) -> None:
    layer = getattr(owner, reader)
    inner = layer.layer if isinstance(layer, OverTime) else layer
    if not isinstance(inner, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        raise ValueError(f'{name}.{reader} is {inner} and cannot be expanded: fuse its norm, or train with batch norms')
    inner = Accumulate(inner, steps, largest)
    setattr(owner, reader, OverTime(inner) if isinstance(layer, OverTime) else inner)


def _expand_attention(module: FusedAttention, name: str, binary: bool) -> None:
    names = ['q_neuron', 'k_neuron', 'v_neuron', 'attn_neuron']
    if isinstance(module.neuron, nn.Identity):  # q, k and v read the sums of a shortcut: those stay whole
        readers = []
    else:
        names, readers = ['neuron', *names], ['q_conv', 'k_conv', 'v_conv']
    levels = {n: _levels(module, name, n) for n in names}
    # masked values are products of two counts
    largest = levels['attn_neuron'] * (levels[f'{module.mask}_neuron'] if module.mask else 1)
    for reader in readers:
        _accumulate(module, name, reader, levels['neuron'] if binary else 1, levels['neuron'])
    _accumulate(module, name, 'proj_conv', largest if binary else 1, largest)
    for attribute, n in levels.items():
        if binary and n > 1:
            setattr(module, attribute, BinarySteps(getattr(module, attribute)))
    module.exact = True
