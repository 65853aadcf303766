"""A block's row of neurons, weights, norms and pools as one module, run on the quickest way there is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from mmspike.kernels import gpu
from mmspike.kernels.layout import contiguous_both_ways, fold, unfold
from mmspike.kernels.norm_neuron import Neuron, norm_neuron
from mmspike.kernels.pools import spike_pool
from mmspike.kernels.recompute import Signal
from mmspike.kernels.spike_conv import spike_conv, takes_counts

from .choice import count_divisor, fire, fusable, hooked, norms_and_neuron, role, settings, several
from .cuda_row import walk_on_cuda
from .low_bit import used_weight

#: layers of torch on [N, ...]: time is part of their batch
OVER_TIME = (_ConvNd, nn.Linear, _NormBase, nn.GroupNorm, nn.LayerNorm, _MaxPoolNd, _AvgPoolNd, nn.Identity)


class Rowed:
    """A module that the kernels see as a row, worked out anew only where a module below was replaced or changed its role."""

    _rows: 'tuple[Row | None, Row | None]' = (None, None)

    def as_row(self, unroll: bool = False) -> 'Row':
        """The module as the kernels see it, see :class:`Row`."""
        row = self._rows[unroll]
        if row is None or not row.holds():
            row = Row(self, unroll)
            self._rows = (self._rows[0], row) if unroll else (row, self._rows[1])
        return row

    def unrolled(self) -> 'list[nn.Module | tuple[nn.Module, str]] | None':
        """What the module computes, as modules and as roles that it has itself; None: it has a forward of its own."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != '_rows'}


class Chain(Rowed, nn.Sequential):
    """Neurons, weights, norms and pools in order: what a block computes, as a row that deployment and analysis can read.

    It computes what ``nn.Sequential`` would, with less memory and time where that is possible: on the CPU in float32 and
    float64, and on CUDA in float32 and under autocast, norms are fused with the neurons behind them and spikes are computed
    anew in the backward pass or saved for it as bytes. With hooks on a module, under compilation or tracing, and everywhere
    else, the modules are simply called. A chain in a chain counts as the modules of its own.

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

    def unrolled(self) -> list[nn.Module | tuple[nn.Module, str]] | None:
        return list(self) if opens(self, Chain) else None


class Row:
    """A module as the kernels see it, worked out once.

    Args:
        unroll: Open residual blocks and attentions, too, so that a sum meets the neuron that reads it.

    Attributes:
        parts: The modules in order with their :func:`mmspike.models.layers.choice.role`; chains are opened, and a
            :class:`~mmspike.models.layers.RepConv` stands for its first norm and depthwise convolution.
        below: Every module below whose ``forward`` the kernels may pass by.
    """

    def __init__(self, module: nn.Module, unroll: bool = False) -> None:
        self._unroll = unroll
        self.parts: list[tuple[nn.Module, str]] = []
        self.below: list[nn.Module] = []
        self._open(module)
        self._classes = tuple(map(type, self.below))
        self._settings = [(get, m, get(m)) for m in self.below if (get := settings(m)) is not None]
        self._children = [(m._modules, tuple(m._modules.values())) for m in (module, *self.below) if m._modules]

    def _open(self, module: nn.Module) -> None:
        steps = module.unrolled() if isinstance(module, Chain if not self._unroll else Rowed) else None
        if steps is not None:
            for step in steps:
                if isinstance(step, tuple):
                    self.parts.append(step)
                else:
                    self.below.append(step)
                    self._open(step)
        elif role(module) == 'repconv':
            self.below += module.children()
            self.parts += [(part, role(part)) for part in (module.conv1, module, module.conv2, module.norm2)]
        elif not isinstance(module, nn.Identity):
            self.below += module.children() if role(module) == 'norm-first repconv' else ()
            self.parts.append((module, role(module)))

    def holds(self) -> bool:
        """The modules below are those that were there, and are what they were."""
        return (
            all([children == tuple(modules.values()) for modules, children in self._children])
            and self._classes == tuple(map(type, self.below))
            and all([get(m) == before for get, m, before in self._settings])
        )


def opens(module: nn.Module, cls: type[nn.Module]) -> bool:
    """A module of a subclass of ``cls`` computes what that does."""
    return type(module).forward is cls.forward or getattr(module, 'takes_mask', False)


def joined_rows(modules: Sequence[nn.Module], unroll: bool) -> list[tuple[nn.Module, str]] | None:
    """The parts of several modules; None: somebody listens to one of those below."""
    rows = [m.as_row(unroll) if isinstance(m, Rowed) else Row(m, unroll) for m in modules]
    if any(hooked(*r.below) for r in rows):
        return None
    return rows[0].parts if len(rows) == 1 else [part for row in rows for part in row.parts]


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


def walk_unrolled(module: Rowed, x: Tensor) -> Tensor | None:
    """The output of a module that was called by itself, as the kernels for CUDA take it; None: they do not."""
    if x.dim() not in (3, 5) or not (fusable(x) and gpu.usable(x)) or module.unrolled() is None:
        return None
    parts = joined_rows([module], unroll=True)
    return None if parts is None else walk_on_cuda(parts, Signal(x), _call).x


def run(modules: Iterable[nn.Module], x: Tensor | Signal) -> Tensor:
    """The modules in order on ``x`` [T, B, ...], as :class:`Chain` runs its own."""
    return walk(modules, x if isinstance(x, Signal) else Signal(x)).x


def walk(modules: Iterable[nn.Module], signal: Signal, alone: bool = False) -> Signal:
    """As :func:`run`, with what is known of input and output.

    Args:
        alone: The output has one consumer, which makes a gradient of its own for it.
    """
    x = signal.x
    chain = modules if isinstance(modules, Chain) and opens(modules, Chain) else None
    row = list(modules)
    parts = None
    if x.dim() in (3, 5) and fusable(x, *(row if chain is None else ())):
        parts = joined_rows(row if chain is None else [chain], gpu.usable(x))
    if parts is None:
        for m in row:
            x = _call(m, x)
        return Signal(x)
    if gpu.usable(x):
        return walk_on_cuda(parts, signal, _call)
    del x  # the first of the modules may be the last to need it
    end, i = len(parts), 0
    while i < end:
        m, part = parts[i]
        i += 1
        if part == 'norm' and several(m, signal.x):
            norms, neuron = norms_and_neuron(parts, i - 1, signal.x.shape[0])
            i += len(norms) - 1 + (neuron is not None)
            count = neuron is not None and i < end and takes_counts(parts[i][0], signal.x, neuron)
            signal = norm_neuron(norms, neuron or Neuron(), signal, count=count, alone=alone and i == end)
        elif part == 'layer':
            signal = spike_conv(m, signal, used_weight(m))
        elif part == 'neuron' and count_divisor(m) is not None:
            signal = fire(m, signal)
        elif part == 'pool':
            signal = spike_pool(m, signal)
        elif part in ('repconv', 'norm-first repconv') and several(m.norm1, signal.x):
            signal = norm_neuron([m.norm1], Neuron(), signal, offset=m.border)
            if part == 'norm-first repconv':
                signal = spike_conv(m.conv1, signal)
            signal = spike_conv(m.dwconv, signal, bias=m.bias(), padding=(1, 1))
        else:
            signal = Signal(_call(m.norm1 if part == 'repconv' else m, signal.x))  # a norm of one value a channel raises
    return signal


def _call(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` on [T, B, ...], whichever of both it takes."""
    if takes_time(module) is not False:
        return module(x)
    T, x = x.shape[0], fold(x)
    if isinstance(module, _NormBase) and x.dim() == 4 and 1 in x.shape[2:] and torch.is_grad_enabled():
        # PyTorch (2.6 to 2.14) takes one order in memory for another where a size is 1: its gradients are wrong
        return unfold(contiguous_both_ways(module(contiguous_both_ways(x))), T)
    return unfold(module(x), T)
