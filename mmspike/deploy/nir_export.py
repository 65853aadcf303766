"""Chains of convolutions and LIF neurons as NIR, the intermediate representation that neuromorphic tool chains read.

NIR (Pedersen et al., Nature Communications 2024, arXiv 2311.14711) is a graph of differential equations and linear maps. It has
LIF and IF neurons, convolutions and linear layers, and adds up what several edges bring to a node, which is what a membrane
shortcut is. It has no integer neuron (SFA, ILIF), no product of features (attention) and no resampling.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmspike.models.backbones import SpikingBackbone
from mmspike.models.neurons import IF, LIF, PLIF

from .fuse import fuse
from .layers import OverTime, Residual, SpikeFed
from .onnx_export import require

NEURONS = (LIF, PLIF, IF)


class _Graph:
    """Nodes and edges of a network, collected module by module."""

    def __init__(self, shapes: dict[nn.Module, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.nodes: dict[str, object] = {}
        self.edges: list[tuple[str, str]] = []
        self.refused: list[str] = []

    def add(self, name: str, node: object, sources: Sequence[str]) -> list[str]:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return [name]

    def walk(self, module: nn.Module, name: str, sources: list[str]) -> list[str]:
        """Add ``module`` behind the nodes ``sources``, whose sum it reads; returns the nodes whose sum it puts out."""
        if isinstance(module, nn.Identity):
            return sources
        if isinstance(module, SpikeFed):
            return self.walk(module.linear, f'{name}.linear', self.walk(module.neuron, f'{name}.neuron', sources))
        if isinstance(module, OverTime):
            return self.walk(module.layer, f'{name}.layer', sources)
        if isinstance(module, Residual):
            for i, branch in enumerate(module.branches):
                sources = sources + self.walk(branch, f'{name}.branches.{i}', sources)
            return sources
        if isinstance(module, SpikingBackbone):
            parts = [('stem', module.stem), *((f'stages.{i}', stage) for i, stage in enumerate(module.stages))]
            for part, stage in parts[: module._positions[-1] + 1]:
                sources = self.walk(stage, f'{name}.{part}', sources)
            return sources
        if isinstance(module, nn.Sequential):
            for i, child in module._modules.items():
                sources = self.walk(child, f'{name}.{i}', sources)
            return sources
        node = _node(module, self.shapes.get(module))
        if node is None:
            self.refused.append(f'{name.lstrip(".") or "the model"} ({type(module).__name__})')
            return sources
        return self.add(name.lstrip('.'), node, sources)


def _node(module: nn.Module, shape: Any) -> object | None:
    """NIR node of a layer or neuron, or None if there is none. ``shape``: of its input, without time and batch."""
    import nir

    if type(module) in NEURONS:
        if isinstance(module, IF):
            tau = None
        else:
            tau = module.tau if isinstance(module, LIF) else 1 / module.w.sigmoid().item()
        full = {k: np.full(shape, getattr(module, k), np.float32) for k in ('v_threshold', 'v_reset')}
        # one step is one unit of time: dv = (v_leak - v + r I) / tau
        if tau is None:
            return nir.IF(r=np.ones(shape, np.float32), **full)
        return nir.LIF(tau=np.full(shape, tau, np.float32), r=np.ones(shape, np.float32), v_leak=full['v_reset'].copy(), **full)
    if type(module) is nn.Conv2d and module.padding_mode == 'zeros':
        weight = _dense(module)
        bias = np.zeros(len(weight), np.float32) if module.bias is None else module.bias.numpy()
        return nir.Conv2d(shape[-2:], weight.numpy(), module.stride, module.padding, module.dilation, 1, bias)
    if type(module) is nn.Linear:
        weight = module.weight.numpy()
        return nir.Linear(weight) if module.bias is None else nir.Affine(weight, module.bias.numpy())
    return None


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


def to_nir(model: nn.Module, shape: Sequence[int]) -> object:
    """A ``nir.NIRGraph`` of a network, or of a part such as ``backbone.stem``. Batch norms are folded on the way.

    A backbone ends with its last feature, at every time step. The graph equals the network if each step is one unit of time,
    integrated by forward Euler from rest. (NIR fires above the threshold, LIF at it.)

    Args:
        model: A spiking backbone without attention, or an ``nn.Sequential`` of spiking layers.
        shape: (C, H, W) of its input, or (C,) for linear layers.

    Raises:
        ImportError: nir is missing.
        ValueError: NIR has no node for a module; all of those are named.
    """
    require(['nir'], 'NIR export')
    import nir

    model = fuse(model).cpu().float()
    shapes, out_shape = _shapes(model, shape)
    graph = _Graph(shapes)
    graph.add('input', nir.Input(np.array(shape)), [])
    sources = graph.walk(model, '', ['input'])
    if graph.refused:
        raise ValueError(
            f'NIR cannot express {", ".join(graph.refused)}: it has LIF and IF neurons, convolutions and linear layers. '
            'Export a part without these, such as stem or stages.0'
        )
    graph.add('output', nir.Output(np.array(out_shape)), sources)
    return nir.NIRGraph(graph.nodes, graph.edges)


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


def export_nir(model: nn.Module, shape: Sequence[int], path: str | Path) -> None:
    """Write :func:`to_nir` of a model to a file of NIR's HDF5 format."""
    graph = to_nir(model, shape)
    import nir

    nir.write(str(path), graph)
