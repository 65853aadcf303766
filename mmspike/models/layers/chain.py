"""A block's row of neurons, weights, norms and pools as one module, run on the quickest way there is."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from .fused import (
    count_norm,
    fusable,
    fusable_conv,
    fusable_neuron,
    fusable_norm,
    hooked,
    norm_neuron,
    spike_conv,
    takes_counts,
)
from .repconv import RepConv
from .temporal import fold, unfold

#: layers of torch on [N, ...]: time is part of their batch
OVER_TIME = (_ConvNd, nn.Linear, _NormBase, nn.GroupNorm, nn.LayerNorm, _MaxPoolNd, _AvgPoolNd, nn.Identity)


class Chain(nn.Sequential):
    """Neurons, weights, norms and pools in order: what a block computes, as a row that deployment and analysis can read.

    It computes what ``nn.Sequential`` would, with less memory and time where that is possible: on the CPU in float32 and
    float64, norms are fused with the neurons behind them and spikes are saved for the backward pass as bytes. With hooks on a
    module, under autocast, compilation or tracing, and everywhere else, the modules are simply called. A chain in a chain
    counts as the modules of its own.

    Args:
        modules: By name, in order. Convolutions, linear layers, norms and pools of torch see time as part of the batch; any
            other module tells by its attribute ``takes_time`` what it takes: True for [T, B, ...], False for [T*B, ...].

    Shape:
        [T, B, ...] in and out.

    Raises:
        ValueError: A module is of a class that neither is known here nor has ``takes_time``; it names both.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import Chain, ConvNorm
        >>> from mmspike.models.neurons import LIF
        >>> block = Chain(neuron1=LIF(), conv1=ConvNorm(8, 16, 3), neuron2=LIF(), conv2=ConvNorm(16, 8))
        >>> block(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    takes_time = True

    def __init__(self, modules: Mapping[str, nn.Module] | None = None, **named: nn.Module) -> None:
        super().__init__()
        for name, module in {**(modules or {}), **named}.items():
            self.add_module(name, module)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        if module is not None:
            check_known(module, f'{type(self).__name__}.{name}')
        super().add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return run(self, x)


def takes_time(module: nn.Module) -> bool | None:
    """True: it takes [T, B, ...]; False: [T*B, ...]; None: nothing says which."""
    if hasattr(module, 'step_mode'):  # of spikingjelly
        return True if module.step_mode == 'm' else None
    return getattr(module, 'takes_time', False if isinstance(module, OVER_TIME) else None)


def check_known(module: nn.Module, name: str) -> None:
    """Raise ValueError if nothing says what a module takes."""
    if takes_time(module) is None:
        raise ValueError(
            f'{name} is a {type(module).__name__}, of which nothing says what it takes: set its attribute takes_time to True '
            "for [T, B, C, ...] or to False for [T*B, C, ...] (in spikingjelly step_mode='m'). Neurons come from build_neuron, "
            'norms from build_norm'
        )


def run(modules: Iterable[nn.Module], x: Tensor, spikes_of: nn.Module | None = None) -> Tensor:
    """The modules in order on ``x`` [T, B, ...], as :class:`Chain` runs its own.

    Args:
        modules: See :class:`Chain`.
        x: Their input.
        spikes_of: The neuron that ``x`` is the output of, if it is.
    """
    row = list(modules)
    if not (x.dim() == 5 and fusable(x, *(m for module in row for m in module.modules()))):
        for m in row:
            x = _call(m, x)
        return x
    parts = [part for m in row for part in opened(m)]
    # of the counts that x holds; None: x is no spikes
    norm = None if spikes_of is None or hooked(spikes_of) else count_norm(spikes_of)
    i, counts, origin = 0, None, None
    while i < len(parts):
        m = parts[i]
        i += 1
        if isinstance(m, RepConv) and fusable_norm(m.norm1):  # opened: its convolutions and last norm stand around it
            x, _, origin = norm_neuron([m.norm1], nn.Identity(), x, offset=m.border, origin=origin)
            bias = m.border() * m.dwconv.weight.sum((1, 2, 3))
            x, origin = spike_conv(m.dwconv, x, None, origin=origin, bias=bias, padding=(1, 1))
        elif fusable_norm(m):
            norms = [m]
            if i < len(parts) and fusable_norm(parts[i]) and parts[i].training == m.training:
                norms.append(parts[i])
                i += 1
            neuron = nn.Identity()
            if i < len(parts) and fusable_neuron(parts[i]):
                neuron = parts[i]
                i += 1
            norm = count_norm(neuron)
            count = norm is not None and i < len(parts) and takes_counts(parts[i], x)
            x, counts, origin = norm_neuron(norms, neuron, x, origin=origin, count=count)
        elif fusable_conv(m):
            x, origin = spike_conv(m, x, norm, counts, origin)
            norm = counts = None
        else:
            x, norm, counts, origin = _call(m, x), count_norm(m), None, None
    return x


def opened(module: nn.Module) -> list[nn.Module]:
    """A module as a row of others; a :class:`RepConv` among them stands for its first norm and depthwise convolution."""
    if isinstance(module, Chain) and (type(module).forward is Chain.forward or getattr(module, 'takes_mask', False)):
        return [part for child in module for part in opened(child)]
    if isinstance(module, RepConv) and fusable_norm(module.norm1):
        return [module.conv1, module, module.conv2, module.norm2]
    return [] if isinstance(module, nn.Identity) else [module]


def _call(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` on [T, B, ...], whichever of both it takes."""
    return unfold(module(fold(x)), x.shape[0]) if takes_time(module) is False else module(x)
