"""Looking at any model from outside: its neurons, their channels and stages, and the state that they keep."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmspike.utils.errors import UserError


def is_neuron(module: nn.Module) -> bool:
    """True for a neuron of ours or of spikingjelly. Neither is imported for the question: who owns one has.

    Example:
        >>> from mmspike.models.inspection import is_neuron
        >>> from mmspike.models.layers import SpikingConv
        >>> block = SpikingConv(8, 16, 3, neuron=dict(type='LIF'))
        >>> [name for name, module in block.named_modules() if is_neuron(module)]
        ['neuron']
    """
    ours = sys.modules.get('mmspike.models.neurons')
    theirs = sys.modules.get('spikingjelly.activation_based.neuron')
    return (ours is not None and isinstance(module, ours.BaseNeuron)) or (
        theirs is not None and isinstance(module, theirs.BaseNode)
    )


def has_time(neuron: nn.Module) -> bool:
    """True if a neuron takes and gives [T, B, ...]: ours do, and spikingjelly's in multi-step mode."""
    return getattr(neuron, 'step_mode', 'm') == 'm'


def time_steps(neuron: nn.Module, spikes: Tensor) -> int:
    """Time steps in one call of ``neuron`` that gave ``spikes``."""
    return spikes.shape[0] if has_time(neuron) and spikes.dim() else 1


def channels_of(neuron: nn.Module, out: Tensor) -> Tensor:
    """An output of ``neuron`` with its channels in one axis: [T, B, C, H, W] for a map, else [T, B, C, positions].

    A neuron that sees tokens [T, B, N, C] or pairs of them says so in its ``layout``, see
    :class:`mmspike.models.neurons.BaseNeuron`. Outputs [T, N, C] of linear layers stay as they are.

    Args:
        out: What one call of the neuron gave; T is 1 where it works step by step.

    Raises:
        ValueError: The output does not have the neuron's layout.
    """
    out = out if has_time(neuron) else out.unsqueeze(0)
    layout = getattr(neuron, 'layout', None)
    if layout is None:
        return out
    if len(layout) != out.dim():
        raise ValueError(f'{type(neuron).__name__} has the layout {layout!r} and gave an output of shape {tuple(out.shape)}')
    return out.movedim(layout.index('C'), 2).flatten(3)


def spike_unit(neuron: nn.Module) -> float | tuple[float, ...]:
    """Value that one spike of ``neuron`` has in its output, 1 / divisor; of each channel where each has its own.

    Example:
        >>> from mmspike.models.inspection import spike_unit
        >>> from mmspike.models.neurons import LIF, SFA
        >>> spike_unit(LIF()), spike_unit(SFA(levels=4, divisor=4))
        (1.0, 0.25)
    """
    divisor = getattr(neuron, 'divisor', 1)
    return tuple(1.0 / d for d in divisor) if isinstance(divisor, tuple) else 1.0 / divisor


def in_spikes(neuron: nn.Module, out: Tensor) -> Tensor:
    """An output of ``neuron`` [T, B, ...], or [B, C, ...] of one with a unit for each channel, in spikes in place of values."""
    unit = spike_unit(neuron)
    if isinstance(unit, tuple):
        return out / column_units(out.new_tensor(unit), out.shape[1]).view(-1, *[1] * (out.dim() - 2))
    return out / unit


def column_units(unit: Tensor, columns: int) -> Tensor:
    """The units [C] of channels as those of ``columns`` inputs of a layer, where all places of a channel follow one another."""
    return unit.repeat_interleave(columns // len(unit))


def stage_of(name: str) -> str:
    """The part of a network that a module belongs to.

    That is the first part of its name (``neck``, ``rpn_head``), of backbones the stage (``backbone.stem``,
    ``backbone.stages.2``), and of heads that hold others the inner one (``roi_head.mask_head``).

    Example:
        >>> from mmspike.models.inspection import stage_of
        >>> stage_of('backbone.stages.2.0.mlp.neuron1')
        'backbone.stages.2'
    """
    parts = name.split('.')
    n = 2 if len(parts) > 2 and (parts[0] == 'backbone' or parts[1].endswith('head')) else 1
    if parts[n - 1] == 'stages' and len(parts) > n + 1:
        n += 1
    return '.'.join(parts[:n])


def stateful_modules(model: nn.Module) -> Iterator[nn.Module]:
    """Every submodule of ``model`` that keeps a membrane from one forward to the next.

    These are our neurons built with ``stateful=True`` and any ``MemoryModule`` of spikingjelly. The model is walked anew in
    every call, so a module that was added or exchanged after the first call is found (``reset_net`` of spikingjelly keeps
    the list of its first call).
    """
    # whoever owns a MemoryModule has imported spikingjelly; nobody else pays for the import
    base = sys.modules.get('spikingjelly.activation_based.base')
    memory_module = base.MemoryModule if base is not None else ()
    for module in model.modules():
        if isinstance(module, memory_module) or (getattr(module, 'stateful', False) and hasattr(module, 'reset')):
            yield module


def reset_spikes(model: nn.Module, places: Tensor | None = None) -> None:
    """Put every stateful neuron of ``model`` at rest, whatever wraps it (DDP, EMA, TTA, ``torch.compile``).

    Args:
        places: bool [B]: only the samples of the batch that are True. None: all.

    Raises:
        UserError: ``places`` has both, and a neuron is spikingjelly's, whose state has no places.

    Example:
        >>> import torch
        >>> from mmspike.models.inspection import reset_spikes
        >>> from mmspike.models.neurons import LIF
        >>> neuron = LIF(stateful=True)
        >>> spikes = neuron(torch.rand(4, 2, 8))
        >>> reset_spikes(neuron)
        >>> neuron.v is None
        True
    """
    for module in stateful_modules(model):
        if places is None or bool(places.all()):
            module.reset()
        elif bool(places.any()):
            if not hasattr(module, 'reset_places'):
                raise UserError(
                    f'{type(module).__name__} cannot be reset for some samples of a batch alone: use a neuron of mmspike, or '
                    'batch_size=1'
                )
            module.reset_places(places)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within, ``model`` is in evaluation mode, at rest and without gradients; then every module has its mode back.

    Example:
        >>> from mmspike.models.neurons import LIF
        >>> neuron = LIF(stateful=True)
        >>> with evaluating(neuron):
        ...     print(neuron.training, torch.is_grad_enabled())
        False False
        >>> neuron.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    reset_spikes(model)
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:  # not train(): parts may have been in different modes
            module.training = training
        reset_spikes(model)
