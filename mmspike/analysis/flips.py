"""Spikes that flip when a network is computed otherwise: in another precision, folded, on more threads, in a batch."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from mmspike.models.inspection import evaluating, has_time, in_spikes, is_neuron, stage_of

#: where neurons see boxes that the network chose
REGIONS = ('roi_head.',)


@dataclass
class Way:
    """One way to compute a network.

    Attributes:
        model: The network, whose neurons are looked at.
        step: Predicts a batch, such as ``model.test_step``.
    """

    model: nn.Module
    step: Callable[[Any], Any]


@dataclass
class Flips:
    """Outputs of neurons, of which some differ between two ways; T outputs a neuron and image.

    Attributes:
        name: Of the neuron layer, the stage, or 'all'.
        outputs: How many there are.
        spikes: Their sum in the first way, as counts.
        flipped: How many differ; a NaN differs from every count.
    """

    name: str
    outputs: int = 0
    spikes: int = 0
    flipped: int = 0

    @property
    def share(self) -> float:
        return self.flipped / max(self.outputs, 1)

    @property
    def rate(self) -> float:
        """Spikes per output."""
        return self.spikes / max(self.outputs, 1)

    def add(self, other: 'Flips') -> None:
        self.outputs += other.outputs
        self.spikes += other.spikes
        self.flipped += other.flipped


@dataclass
class FlipReport:
    """The findings of :func:`spike_flips`.

    Attributes:
        layers: Neuron layer -> its flips, in the order of execution.
        batches: How many batches were computed.
        first: Name of the first layer with a flip, '' if there is none.
        left_out: Neurons of a ``roi_head``, which are not compared: once a proposal differs, the two ways see other boxes.
    """

    layers: dict[str, Flips] = field(default_factory=dict)
    batches: int = 0
    left_out: list[str] = field(default_factory=list)

    @property
    def total(self) -> Flips:
        return _sum('all', self.layers.values())

    @property
    def first(self) -> str:
        return next((name for name, layer in self.layers.items() if layer.flipped), '')

    def stages(self) -> dict[str, Flips]:
        """The same by stage, see :func:`mmspike.models.inspection.stage_of`."""
        names = dict.fromkeys(map(stage_of, self.layers))
        return {name: _sum(name, [x for n, x in self.layers.items() if stage_of(n) == name]) for name in names}

    def __str__(self) -> str:
        total, first = self.total, self.layers.get(self.first)
        text = f'{total.flipped} of {total.outputs} spikes differ'
        return text + (f', first {first.flipped} of {first.outputs} in {first.name}' if first else '')

    def to_dict(self) -> dict:
        """Everything, for JSON."""

        def row(flips: Flips) -> dict:
            return asdict(flips) | dict(share=flips.share, rate=flips.rate)

        return dict(
            batches=self.batches,
            total=row(self.total),
            first=self.first,
            stages=[row(x) for x in self.stages().values()],
            layers=[row(x) for x in self.layers.values()],
            left_out=self.left_out,
        )


def _sum(name: str, parts: Iterable[Flips]) -> Flips:
    total = Flips(name)
    for part in parts:
        total.add(part)
    return total


def spike_flips(batches: Iterable[Any], one: Way, other: Way) -> FlipReport:
    """Compare what every neuron of a network sends when it is computed in two ways.

    A difference travels: one spike that rounding flips changes membranes behind it, which flip more. What is counted is
    everything that differs in the end. Both ways run in evaluation mode, and the counts of one batch are in memory, four bytes
    an output.

    Args:
        batches: What ``step`` takes. Of a larger batch in the second way, its first images are compared.
        one, other: The ways, whose models have neurons of the same names.

    Raises:
        ValueError: The neurons have other names, are called another number of times, or none is called.

    Example:
        >>> from mmengine.model import BaseModel
        >>> from mmspike.models.layers import SpikingConv
        >>> class Network(BaseModel):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.block = SpikingConv(3, 8, 3, neuron=dict(type='SFA', levels=4))
        ...     def forward(self, inputs, mode='tensor'):
        ...         return self.block(inputs[None])
        >>> network = Network()
        >>> print(spike_flips([dict(inputs=torch.rand(1, 3, 4, 4))], plain(network), in_half(network, torch.bfloat16)))
        0 of 48 spikes differ
    """
    report = FlipReport(left_out=[name for name, _ in _neurons(one.model) if name.startswith(REGIONS)])
    for batch in batches:
        report.batches += 1
        before = _sent(one, batch)
        after = _sent(other, batch)
        if unlike := sorted(before.keys() ^ after.keys()):
            raise ValueError(f'the neurons of the two ways are others, or called in one way only: {unlike}')
        for name, calls in before.items():
            report.layers.setdefault(name, Flips(name)).add(_compare(name, calls, after.pop(name)))
    if not report.layers:
        raise ValueError('no neuron was called that could be compared: has the network any, and are there images?')
    return report


def _neurons(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if is_neuron(module))


def _sent(way: Way, batch: Any) -> dict[str, list[Tensor]]:
    """Counts of every call of every neuron, int16 [T, B, …] on the CPU; -1, which no neuron sends, stands for NaN."""
    sent: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable:
        def keep(neuron: nn.Module, args: tuple, out: Tensor) -> None:
            counts = in_spikes(neuron, out).round().nan_to_num(nan=-1).short().cpu()
            sent.setdefault(name, []).append(counts if has_time(neuron) else counts.unsqueeze(0))

        return keep

    neurons = [(name, neuron) for name, neuron in _neurons(way.model) if not name.startswith(REGIONS)]
    handles = [neuron.register_forward_hook(hook(name)) for name, neuron in neurons]
    try:
        with evaluating(way.model):
            way.step(deepcopy(batch))
    finally:
        for handle in handles:
            handle.remove()
    return sent


def _compare(name: str, before: list[Tensor], after: list[Tensor]) -> Flips:
    if len(before) != len(after):
        raise ValueError(f'{name} was called {len(before)} times in the first way and {len(after)} times in the second')
    flips = Flips(name)
    for one, other in zip(before, after, strict=True):
        other = other[:, : one.shape[1]] if one.dim() > 1 else other
        if one.shape != other.shape:
            raise ValueError(f'{name} sent {tuple(one.shape)} spikes in the first way and {tuple(other.shape)} in the second')
        flips.add(Flips(name, one.numel(), int(one.clamp(min=0).sum()), int((one != other).sum())))
    return flips


def measure_norms(way: Way, batches: Iterable[Any]) -> None:
    """Give the batch norms of a network that was not trained the statistics of ``batches``, so that its neurons fire."""
    norms = [(m, m.momentum) for m in way.model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    with evaluating(way.model):
        for norm, _ in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for batch in batches:
            way.step(deepcopy(batch))
    for norm, momentum in norms:
        norm.momentum = momentum


# --- ways -----------------------------------------------------------------------------------------------------------------


def plain(model: Any) -> Way:
    """``model.test_step`` as it is."""
    return Way(model, model.test_step)


def in_half(model: Any, dtype: torch.dtype) -> Way:
    """Under autocast to float16 or bfloat16."""
    device = next(model.parameters()).device.type

    def step(batch: Any) -> Any:
        with torch.autocast(device, dtype):
            return model.test_step(batch)

    return Way(model, step)


def in_float64(model: nn.Module) -> Way:
    """Weights and everything behind them in float64, the hosts' post-processing, too."""
    double: Any = deepcopy(model).double()

    def step(batch: Any) -> Any:
        with inputs_of_its_type(double), postprocessing_of_float64():
            return double.test_step(batch)

    return Way(double, step)


def in_tf32(model: Any) -> Way:
    """With convolutions that round to TF32, which a card since Ampere does; elsewhere nothing differs."""

    def step(batch: Any) -> Any:
        with torch.backends.cudnn.flags(allow_tf32=True):
            return model.test_step(batch)

    return Way(model, step)


def on_threads(model: Any, number: int) -> Way:
    """On so many threads of the CPU."""

    def step(batch: Any) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(number)
        try:
            return model.test_step(batch)
        finally:
            torch.set_num_threads(before)

    return Way(model, step)


def in_batch(model: Any, number: int) -> Way:
    """As the first of so many copies of the same images in one batch."""

    def many(item: Any) -> Any:
        if isinstance(item, Tensor):
            return torch.cat([item] * number)
        return [deepcopy(x) for _ in range(number) for x in item]

    return Way(model, lambda batch: model.test_step({key: many(value) for key, value in batch.items()}))


@contextmanager
def inputs_of_its_type(model: nn.Module) -> Iterator[None]:
    """Give a backbone its input in the type of its weights: a preprocessor without statistics, of events, makes float32."""
    backbone: Any = getattr(model, 'backbone', None)
    if backbone is None:
        yield
        return
    dtype = next(backbone.parameters()).dtype
    handle = backbone.register_forward_pre_hook(lambda m, args: (args[0].to(dtype), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


class _SampledAlike(TorchFunctionMode):
    """mmdet pastes masks as float32, whatever its boxes are: within, a grid and what it samples are float64 if one is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.grid_sample and args[0].dtype != args[1].dtype:
            args = (args[0].double(), args[1].double(), *args[2:])
        return func(*args, **(kwargs or {}))


@contextmanager
def postprocessing_of_float64() -> Iterator[None]:
    """Let the hosts' post-processing take float64. mmcv's non-maximum suppression chooses among the boxes in float32."""
    extension: Any = sys.modules.get('mmcv._ext')
    nms: Any = getattr(extension, 'nms', None)

    def in_float32(boxes: Tensor, scores: Tensor, **kwargs) -> Tensor:
        return nms(boxes.float(), scores.float(), **kwargs)

    if nms is not None:
        extension.nms = in_float32
    try:
        with _SampledAlike():
            yield
    finally:
        if nms is not None:
            extension.nms = nms
