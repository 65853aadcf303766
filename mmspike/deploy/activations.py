"""Where an ordinary network rectifies, and what it does that integer spikes cannot: both are seen in a real forward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmspike.models.inspection import is_neuron
from mmspike.utils.errors import UserError

RELUS = (nn.ReLU, nn.ReLU6)
#: called as functions; the names under which messages have them
RELU_CALLS = {F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
NOT_CONVERTED: dict[Callable, str] = {
    function: name
    for name, functions in {
        'a softmax': (F.softmax, torch.softmax, Tensor.softmax),
        'attention': (F.scaled_dot_product_attention, F.multi_head_attention_forward),
        'a sigmoid': (torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid),
        'a hard sigmoid': (F.hardsigmoid,),
        'a tanh': (torch.tanh, Tensor.tanh, F.tanh),
        'GELU': (F.gelu,),
        'SiLU': (F.silu,),
        'Mish': (F.mish,),
        'hard swish': (F.hardswish,),
        'ELU': (F.elu,),
        'a leaky ReLU': (F.leaky_relu,),
        'PReLU': (F.prelu, torch.prelu),
        'softplus': (F.softplus,),
        'a layer norm, whose statistics are taken at inference': (F.layer_norm, torch.layer_norm),
        'a group norm, whose statistics are taken at inference': (F.group_norm, torch.group_norm),
        'an instance norm, whose statistics are taken at inference': (F.instance_norm, torch.instance_norm),
    }.items()
    for function in functions
}


class ConversionError(UserError, ValueError):
    """A network has what cannot be converted; the message says what and where."""


@dataclass
class Site:
    """A ReLU of a network.

    Attributes:
        owner: Name of the module that calls it; of a ReLU called as a function, of the module whose output it rectifies.
        names: Its names there; empty for a function.
        calls: How often one forward of the owner calls it: each call has a threshold of its own.
        samples: Of each call values that it gave.
        sums: Of each call the sums of its values for each channel, in float64, and how many each is of.
        maps: Of each call True if its values are [B, C] or [B, C, H, W]: layers read their channels by columns of weights.
        per_channel: Of each call True if the neuron in its place has a threshold for each channel.
    """

    owner: str
    names: tuple[str, ...]
    calls: int = 1
    samples: list[list[Tensor]] = field(default_factory=list)
    sums: list[tuple[Tensor, int]] = field(default_factory=list)
    maps: list[bool] = field(default_factory=list)
    per_channel: list[bool] = field(default_factory=list)

    @property
    def channels(self) -> list[int]:
        """Of each call the channels of its values [B, C, ...]."""
        return [len(total) for total, _ in self.sums]

    def means(self, call: int) -> Tensor:
        """The mean of each channel [C], in float64."""
        total, number = self.sums[call]
        return total / max(number, 1)

    def label(self, call: int) -> str:
        """How messages call it."""
        place = f'{self.owner}.{self.names[0]}'.lstrip('.') if self.names else f'behind {self.owner}'
        return f'{place} (call {call + 1})' if self.calls > 1 else place


def channel_sums(x: Tensor) -> Tensor:
    """The sums of [B, C, ...] for each channel, in float64 on the CPU."""
    return x.detach().double().sum([i for i in range(x.dim()) if i != 1]).cpu()


class Watch(TorchFunctionMode):
    """Sees the ReLUs of every forward of ``model`` that runs within.

    Args:
        model: The network.
        number: Values that are kept of each call of a ReLU and each forward.

    Attributes:
        sites: What was found, by owner and module.
        refused: Of what cannot be converted the places.
    """

    def __init__(self, model: nn.Module, number: int = 4096) -> None:
        super().__init__()
        self.model, self.number = model, number
        self.sites: dict[tuple[str, int], Site] = {}
        self.refused: dict[str, None] = {}
        self._names = {module: name for name, module in model.named_modules()}
        self._generator = torch.Generator().manual_seed(0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on all modules, and on all functions of torch."""
        self._stack: list[tuple[nn.Module, dict[int, int]]] = []
        self._made: tuple[Tensor, str] | None = None  # the tensor itself: ids of those that are gone are given again
        self._rectified: dict[str, int] = {}
        self._outputs: dict[str, int] = {}
        handles = []
        for module in self._names:
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()
        for name, count in self._rectified.items():
            if self._outputs.get(name) != count:
                self.refused[f'a ReLU that is called as a function on some of the outputs of {name}'] = None

    def _enter(self, module: nn.Module, args: tuple) -> None:
        self._stack.append((module, {}))

    def _leave(self, module: nn.Module, args: tuple, out: Any) -> None:
        _, calls = self._stack.pop()
        for key, count in calls.items():
            site = self.sites[self._names[module], key]
            if site.calls not in (0, count):
                self.refused[f'{site.label(0)}: it is called {site.calls} or {count} times in a forward'] = None
            site.calls = count
        if not isinstance(out, Tensor):
            return
        if isinstance(module, RELUS):
            self._rectify(module, out)
        elif not module._modules:
            self._made = out, self._names[module]
            self._outputs[self._names[module]] = self._outputs.get(self._names[module], 0) + 1

    def _rectify(self, module: nn.Module, out: Tensor) -> None:
        if not self._stack:
            self.refused[f'{self._names[module]}: it is called from outside of the network'] = None
            return
        owner, calls = self._stack[-1]
        names = tuple(name for name, child in owner._modules.items() if child is module)
        if not names:
            self.refused[f'{self._names[module]}: {self._names[owner] or "the model"} calls it, which does not have it'] = None
            return
        call = calls.get(id(module), 0)
        calls[id(module)] = call + 1
        site = self.sites.setdefault((self._names[owner], id(module)), Site(self._names[owner], names, 0))
        self._keep(site, call, out)

    def _keep(self, site: Site, call: int, out: Tensor) -> None:
        while len(site.samples) <= call:
            site.samples.append([])
            site.sums.append((torch.zeros(out.shape[1], dtype=torch.float64), 0))
            site.maps.append(out.dim() in (2, 4))
            site.per_channel.append(False)
        total, number = site.sums[call]
        site.sums[call] = total + channel_sums(out), number + out.numel() // out.shape[1]
        values = out.detach().flatten()
        if values.numel() > self.number:
            values = values[torch.randint(values.numel(), (self.number,), generator=self._generator).to(values.device)]
        site.samples[call].append(values.float().cpu())

    def __torch_function__(self, func, types, args=(), kwargs=None):
        before = self._made
        out = func(*args, **(kwargs or {}))
        if len(self._stack) < 2:  # post-processing is the detector's own
            return out
        module = self._stack[-1][0]
        name = self._names[module]
        if func in RELU_CALLS and not isinstance(module, RELUS):
            if before is None or before[0] is not args[0]:
                self.refused[f'a ReLU that {name} calls as a function on what is no output of a module'] = None
                return out
            site = self.sites.setdefault((before[1], 0), Site(before[1], ()))
            self._rectified[before[1]] = self._rectified.get(before[1], 0) + 1
            self._keep(site, 0, out)
        elif func in NOT_CONVERTED and not is_neuron(module):
            self.refused[f'{NOT_CONVERTED[func]} in {name} ({type(module).__name__})'] = None
        return out
