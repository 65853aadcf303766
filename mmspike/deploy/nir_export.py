"""Chains of convolutions and LIF neurons as NIR, the intermediate representation that neuromorphic tool chains read.

NIR (Pedersen et al., Nature Communications 2024, arXiv 2311.14711) is a graph of differential equations and linear maps. It has
LIF and IF neurons, convolutions, linear layers and average pools, and adds up what several edges bring to a node, as membrane
shortcuts do. It has no integer neuron (SFA, ILIF), no product of features (attention) and no resampling.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmspike.models.backbones.base import SpikingBackbone
from mmspike.models.layers import Chain, Residual
from mmspike.models.neurons import IF, LIF, PLIF

from .folding import scale_input
from .fusing import fuse
from .onnx_export import require
from .rows import Place, is_window, places, window_of

NEURONS = (LIF, PLIF, IF)
#: seconds of a time step: the default or the fixed value of snntorch and spikingjelly; norse takes it as an argument
DT = 1e-4
NIR_PACKAGES = ('nir',)


class _Walk:
    """The layers and neurons of a network in order, each with those whose sum it reads, and what NIR cannot express."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.sources: dict[nn.Module, list[nn.Module | None]] = {}  # None: the input
        self.refused: list[str] = []
        self.outputs = self.walk(model, [None])

    def walk(self, module: nn.Module, sources: list) -> list:
        """Add ``module`` behind the modules ``sources``, whose sum it reads; returns the modules whose sum it puts out."""
        if isinstance(module, Residual):
            before, *branches, after, shortcut = module.rows
            sources = self.row(places(module, before), sources)
            for i, names in enumerate(branches):
                kept = self.row(places(module, shortcut), sources) if i == 0 else sources
                sources = kept + self.row(places(module, names), sources)
            return self.row(places(module, after), sources)
        if isinstance(module, Chain):
            return self.row(places(module), sources)
        if isinstance(module, SpikingBackbone):
            for part in [module.stem, *module.stages][: module.last_position + 1]:
                sources = self.walk(part, sources)
            return sources
        if type(module) is nn.Sequential:
            for child in module:
                sources = self.walk(child, sources)
            return sources
        if isinstance(module, nn.Identity) or type(module) in NEURONS:
            return sources if isinstance(module, nn.Identity) else self.add(module, sources)
        why = ' of torch, which knows no time steps: put it in a Chain' if type(module).__module__.startswith('torch.') else ''
        return self.refuse(module, sources, why)

    def row(self, row: Sequence[Place], sources: list) -> list:
        for place in row:
            module = place.module
            if _is_known(module):
                sources = self.add(module, sources)
            elif isinstance(module, (Chain, Residual)):
                sources = self.walk(module, sources)
            else:
                sources = self.refuse(module, sources)
        return sources

    def add(self, module: nn.Module, sources: list) -> list:
        if module in self.sources:
            return self.refuse(module, sources, ', which runs twice')
        self.sources[module] = sources
        return [module]

    def refuse(self, module: nn.Module, sources: list, why: str = '') -> list:
        self.refused.append(f'{self.names.get(module) or "the model"} ({type(module).__name__}{why})')
        return sources


def _is_known(module: nn.Module) -> bool:
    if isinstance(module, nn.AvgPool2d):
        return module.divisor_override is None and is_window(module)
    return type(module) in (*NEURONS, nn.Linear) or (type(module) is nn.Conv2d and module.padding_mode == 'zeros')


def _node(module: Any, shape: tuple[int, ...], dt: float) -> object:
    """NIR node of a layer or neuron. ``shape``: of its input, without time and batch."""
    import nir

    if type(module) in NEURONS:
        # a float32 below: NIR and most of its readers fire above the threshold, our neurons at it
        threshold = np.nextafter(np.float32(module.v_threshold), np.float32(-np.inf))
        full = dict(v_threshold=np.full(shape, threshold), v_reset=np.full(shape, module.v_reset, np.float32))
        if isinstance(module, IF):
            return nir.IF(r=np.full(shape, 1 / dt, np.float32), **full)
        steps = module.tau if isinstance(module, LIF) else 1 / module.w.sigmoid().item()
        tau = np.full(shape, steps * dt, np.float32)
        return nir.LIF(tau=tau, r=np.ones(shape, np.float32), v_leak=full['v_reset'].copy(), **full)
    if isinstance(module, nn.AvgPool2d):
        size, stride, padding = (
            np.array(nn.modules.utils._pair(v)) for v in (module.kernel_size, module.stride, module.padding)
        )
        return nir.AvgPool2d(size, stride, padding)
    if isinstance(module, nn.Conv2d):
        weight = _dense(module)
        bias = np.zeros(len(weight), np.float32) if module.bias is None else module.bias.numpy()
        return nir.Conv2d(shape[-2:], weight.numpy(), module.stride, module.padding, module.dilation, 1, bias)
    weight = module.weight.numpy()
    return nir.Linear(weight) if module.bias is None else nir.Affine(weight, module.bias.numpy())


def _dense(conv: nn.Conv2d) -> Tensor:
    """Weights of one group: the type check of NIR's own package takes the input channels from them and knows no groups."""
    w = conv.weight
    if conv.groups == 1:
        return w
    out, inner = w.shape[0] // conv.groups, w.shape[1]
    dense = w.new_zeros(w.shape[0], conv.in_channels, *w.shape[2:])
    for g in range(conv.groups):
        dense[g * out : (g + 1) * out, g * inner : (g + 1) * inner] = w[g * out : (g + 1) * out]
    return dense


def _sum(shape: tuple[int, ...]) -> object:
    """A node that adds up its sources and changes nothing, for readers that would give several outputs instead."""
    import nir

    eye = np.eye(shape[0], dtype=np.float32)
    if len(shape) == 1:
        return nir.Linear(eye)
    return nir.Conv2d(shape[-2:], eye[..., None, None], 1, 0, 1, 1, np.zeros(shape[0], np.float32))


def to_nir(model: nn.Module, shape: Sequence[int], dt: float = DT) -> Any:
    """A ``nir.NIRGraph`` of a network, or of a part such as ``backbone.stem``. Batch norms are folded on the way.

    A backbone ends with its last feature, at every time step. The graph equals the network if it is integrated by forward
    Euler in steps of ``dt`` from rest: a time constant of tau steps is tau * dt seconds. Thresholds are one float32 lower than
    ours, since NIR fires above a threshold and our neurons at it. A part that ends in a shortcut has an identity behind it,
    which adds up. ``dt`` is in the metadata.

    Args:
        model: A spiking backbone without attention, or an ``nn.Sequential`` of spiking layers.
        shape: (C, H, W) of its input, or (C,) for linear layers.
        dt: Seconds of a time step. Readers have a value of their own, which has to be the same.

    Raises:
        ImportError: nir is missing.
        ValueError: NIR has no node for a module; all of those are named. Or dt is not positive.
    """
    require(NIR_PACKAGES, 'NIR export')
    import nir

    if not dt > 0:
        raise ValueError(f'dt must be positive, seconds of a time step, got {dt}')
    model = fuse(model).cpu().float()
    _divide_in_pools(model)
    walk = _Walk(model.requires_grad_(False))
    if walk.refused:
        raise ValueError(
            f'NIR cannot express {", ".join(walk.refused)}: it has LIF and IF neurons, convolutions and linear layers. '
            'Export a part without these, such as stem or stages.0'
        )
    shapes, out_shape = _shapes(model, shape)
    names = {None: 'input'} | {module: walk.names[module] or 'model' for module in walk.sources}
    nodes = {'input': nir.Input(np.array(shape))}
    nodes |= {names[module]: _node(module, shapes[module], dt) for module in walk.sources}
    edges = [(names[source], names[module]) for module, sources in walk.sources.items() for source in sources]
    last = [names[source] for source in walk.outputs]
    if len(last) > 1:
        nodes['sum'] = _sum(out_shape)
        edges += [(name, 'sum') for name in last]
        last = ['sum']
    nodes['output'] = nir.Output(np.array(out_shape))
    return nir.NIRGraph(nodes, [*edges, (last[0], 'output')], metadata=dict(dt=dt))


@torch.no_grad()
def _divide_in_pools(model: nn.Module) -> None:
    """Back from sums over windows to averages, which more readers know: the weights behind them are not divided."""
    for module in model.modules():
        if isinstance(module, Chain):
            row = places(module)
            for i, place in enumerate(row):
                pool = place.module
                if isinstance(pool, nn.AvgPool2d) and pool.divisor_override == 1:
                    scale_input(row[i + 1 :], window_of(pool))
                    place.put(nn.AvgPool2d(pool.kernel_size, pool.stride, pool.padding))


def _shapes(model: nn.Module, shape: Sequence[int]) -> tuple[dict[nn.Module, tuple[int, ...]], tuple[int, ...]]:
    """Input shape of every module without children, and the output's, both without time and batch, from a forward."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    keep = len(shape)

    def note(module: nn.Module, args: tuple, out: object) -> None:
        if isinstance(args[0], Tensor):
            shapes[module] = tuple(args[0].shape[-keep:])

    handles = [m.register_forward_hook(note) for m in model.modules() if not m._modules]
    try:
        with torch.no_grad():
            out = model(torch.zeros(1, *shape) if isinstance(model, SpikingBackbone) else torch.zeros(1, 1, *shape))
    finally:
        for handle in handles:
            handle.remove()
    out = out[-1] if isinstance(out, tuple) else out
    return shapes, tuple(out.shape[-keep:])


class _WithoutZeros:
    """A graph as ``nir.write`` takes it, without resets to 0: those are the default, and nir 1.0.4 reads no others."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    def to_dict(self) -> dict:
        items = self.graph.to_dict()
        for node in items['nodes'].values():
            if 'v_reset' in node and not node['v_reset'].any():
                del node['v_reset']
        return items


def export_nir(model: nn.Module, shape: Sequence[int], path: str | Path, dt: float = DT) -> list[str]:
    """Write :func:`to_nir` of a model to a file of NIR's HDF5 format.

    Returns:
        What whoever reads the file has to know, a line each.
    """
    graph = to_nir(model, shape, dt)
    import nir

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nir.write(str(path), _WithoutZeros(graph))
    return how_to_read(graph)


def how_to_read(graph: Any) -> list[str]:
    """Advice for readers: the time step to tell each, and its differences from the network; a line each."""
    dt = graph.metadata['dt']
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    resets = [n for n, node in graph.nodes.items() if getattr(node, 'v_reset', None) is not None and node.v_reset.any()]
    lines = [f'a time step is {dt:g} s: norse.torch.from_nir(graph, dt={dt:g})']
    if 'AvgPool2d' in kinds:
        lines[0] += ', but norse has no average pool'
    lines.append(f'spikingjelly.activation_based.nir_exchange.import_from_nir(graph, dt={dt:g})')
    if dt != DT:
        lines.append(f'snntorch has {DT:g} s built in and cannot read this file right: write it with --dt {DT:g}')
    elif 'IF' in kinds:
        lines.append('snntorch cannot read IF neurons')
    else:
        lines.append('snntorch.import_nir.import_from_nir(graph), anew for every sample: its neurons keep their membranes')
    if resets:
        reset = float(graph.nodes[resets[0]].v_reset.flat[0])
        lines.append(f'WARNING: {resets[0]} resets to {reset:g}, but norse always resets to 0, and snntorch refuses the file')
    early = _early(graph)
    if early:
        lines.append(f'WARNING: norse gets {early[0]} wrong: of the branches that join there more than one has layers')
    return lines


def _early(graph: Any) -> list[str]:
    """Nodes that norse (nirtorch 2.6) runs before one of their sources: it goes depth first, along the edges in order."""
    seen: set[str] = set()
    early, stack = [], ['input']
    while stack:
        name = stack.pop()
        if name not in seen:
            seen.add(name)
            if any(target == name and source not in seen for source, target in graph.edges):
                early.append(name)
            stack += [target for source, target in reversed(graph.edges) if source == name]
    return early
