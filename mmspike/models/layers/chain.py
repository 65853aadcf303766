"""A block's row of neurons, weights, norms and pools as one module, run on the quickest way there is."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from mmspike.kernels.norm_neuron import Neuron, norm_neuron
from mmspike.kernels.pools import spike_pool
from mmspike.kernels.recompute import Signal
from mmspike.kernels.spike_conv import spike_conv, takes_counts

from .binary import binary_weight, is_binary
from .choice import count_divisor, described, fire, fusable, fusable_layer, fusable_norm, fusable_pool
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


def run(modules: Iterable[nn.Module], x: Tensor | Signal) -> Tensor:
    """The modules in order on ``x`` [T, B, ...], as :class:`Chain` runs its own."""
    return walk(modules, x if isinstance(x, Signal) else Signal(x)).x


def walk(modules: Iterable[nn.Module], signal: Signal) -> Signal:
    """As :func:`run`, with what is known of input and output."""
    row, x = list(modules), signal.x
    if x.dim() not in (3, 5) or not fusable(x, *(m for module in row for m in module.modules())):
        for m in row:
            x = _call(m, x)
        return Signal(x)
    parts = [part for m in row for part in opened(m)]
    i = 0
    while i < len(parts):
        m = parts[i]
        i += 1
        if isinstance(m, RepConv) and fusable_norm(m.norm1):  # opened: its convolutions and last norm stand around it
            signal = norm_neuron([m.norm1], Neuron(), signal, offset=m.border)
            bias = m.border() * m.dwconv.weight.sum((1, 2, 3))
            signal = spike_conv(m.dwconv, signal, bias=bias, padding=(1, 1))
        elif fusable_norm(m) and signal.x.numel() > signal.x.shape[2]:
            norms, neuron = [m], None
            if i < len(parts) and fusable_norm(parts[i]) and parts[i].training == m.training:
                norms.append(parts[i])
                i += 1
            if i < len(parts):
                neuron = described(parts[i])
                i += neuron is not None
            count = neuron is not None and neuron.levels < 256 and i < len(parts) and takes_counts(parts[i], signal.x)
            signal = norm_neuron(norms, neuron or Neuron(), signal, count=count)
        elif fusable_layer(m):
            weight = binary_weight(m.weight, int(isinstance(m, nn.ConvTranspose2d))) if is_binary(m) else None
            signal = spike_conv(m, signal, weight)
        elif fusable_pool(m):
            signal = spike_pool(m, signal)
        elif count_divisor(m) is not None:
            signal = fire(m, signal)
        else:
            signal = Signal(_call(m, signal.x))
    return signal


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
