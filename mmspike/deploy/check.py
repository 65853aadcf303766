"""Outputs of a network before and after deployment, side by side."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmspike.models.inspection import evaluating, is_neuron, spike_unit


def output_tensors(item: object, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """Every tensor in the outputs of a model, with its path: data samples, instances, tuples and dicts are opened."""
    if isinstance(item, Tensor):
        yield name, item
    elif isinstance(item, BaseDataElement):
        for key, value in item.items():
            yield from output_tensors(value, f'{name}.{key}')
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield from output_tensors(value, f'{name}.{key}')
    elif isinstance(item, Sequence) and not isinstance(item, str):
        for i, value in enumerate(item):
            yield from output_tensors(value, f'{name}[{i}]')


@dataclass
class Difference:
    """How far two outputs are apart.

    Attributes:
        largest: Largest absolute difference of the floating-point outputs; infinite where their shapes differ.
        where: Path of the output that has it.
        flipped: Labels and pixels of masks that differ.
        total: How many of those there are.
    """

    largest: float = 0.0
    where: str = ''
    flipped: int = 0
    total: int = 0

    def __str__(self) -> str:
        text = f'largest difference {self.largest:.2g}' + (f' (in {self.where})' if self.largest else '')
        return text + (f', {self.flipped} of {self.total} labels and mask pixels differ' if self.total else '')


def difference(a: object, b: object) -> Difference:
    """How far the outputs ``a`` and ``b`` of two models are apart."""
    found = Difference()
    pairs = dict(output_tensors(a)), dict(output_tensors(b))
    for name in dict.fromkeys((*pairs[0], *pairs[1])):
        x, y = (p.get(name) for p in pairs)
        if x is None or y is None or x.shape != y.shape:
            sizes = ' against '.join('nothing' if z is None else str(tuple(z.shape)) for z in (x, y))
            found.largest, found.where = float('inf'), f'{name.lstrip(".")}: {sizes}'
        elif x.is_floating_point():
            apart = torch.where(x == y, 0.0, (x.double() - y.double()).abs()).nan_to_num(nan=float('inf'), posinf=float('inf'))
            gap = apart.max().item() if x.numel() else 0.0
            if gap > found.largest:
                found.largest, found.where = gap, name.lstrip('.')
        else:
            found.flipped += int((x != y).sum())
            found.total += x.numel()
    return found


def compare(model: nn.Module, deployed: nn.Module, batch: dict) -> Difference:
    """How far the predictions of two networks for a batch are apart, boxes, scores, masks and logits included.

    In float64 (both networks cast before folding) nothing but an error makes a difference; in float32 a membrane that rounding
    moves across a threshold does, too.
    """
    outputs = []
    for m in (model, deployed):
        with evaluating(m), _inputs_of_its_type(m), _postprocessing_of_float64():
            outputs.append(m.test_step(deepcopy(batch)))
    return difference(*outputs)


class _SampledAlike(TorchFunctionMode):
    """mmdet pastes masks as float32, whatever its boxes are: within, a grid and what it samples are float64 if one is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.grid_sample and args[0].dtype != args[1].dtype:
            args = (args[0].double(), args[1].double(), *args[2:])
        return func(*args, **(kwargs or {}))


@dataclass
class SpikeDifference:
    """How many outputs of neurons differ between two networks.

    Attributes:
        differ, total: Elements that differ, and all, from the first neuron on.
        first: Name of the first neuron, in order of execution, of which one differs; '' if none does.
        first_differ, first_total: The same for that neuron.
    """

    differ: int = 0
    total: int = 0
    first: str = ''
    first_differ: int = 0
    first_total: int = 0

    def __str__(self) -> str:
        text = f'{self.differ} of {self.total} spikes differ'
        return text + (f', first {self.first_differ} of {self.first_total} in {self.first}' if self.first else '')


def spikes_that_differ(model: nn.Module, deployed: nn.Module, batch: dict) -> SpikeDifference:
    """Compares what every neuron of two networks sends, in the order of execution.

    Neurons of a ``roi_head`` are left out: once a proposal differs, the two see other boxes.
    """
    runs = []
    for m in (model, deployed):
        spikes: list[tuple[str, Tensor]] = []

        def keep(name: str, neuron: nn.Module, out: Tensor, spikes: list = spikes) -> None:
            counts = (out / spike_unit(neuron)).round().nan_to_num(nan=-1)  # which no neuron sends
            spikes.append((name, counts.short()))

        handles = [
            n.register_forward_hook(lambda n, args, out, name=name, keep=keep: keep(name, n, out))
            for name, n in m.named_modules()
            if is_neuron(n) and not name.startswith('roi_head.')
        ]
        try:
            with evaluating(m), _inputs_of_its_type(m), _postprocessing_of_float64():
                m.test_step(deepcopy(batch))
        finally:
            for handle in handles:
                handle.remove()
        runs.append(spikes)
    found = SpikeDifference()
    for (_, a), (name, b) in zip(*runs, strict=True):
        differ = int((a != b).sum())
        if differ and not found.first:
            found.first, found.first_differ, found.first_total = name, differ, a.numel()
        found.differ += differ
        found.total += a.numel()
    return found


@contextmanager
def _inputs_of_its_type(model: nn.Module) -> Iterator[None]:
    """Gives a backbone its input in the type of its weights: a preprocessor without statistics, of events, makes float32."""
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


@contextmanager
def _postprocessing_of_float64() -> Iterator[None]:
    """Lets the hosts' post-processing take float64. mmcv's non-maximum suppression chooses among the boxes in float32."""
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
