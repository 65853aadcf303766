"""The spikes of an ONNX file in an engine, neuron by neuron, against those of the module that it was exported from."""

# onnx_ir types whatever a node has as optional
# mypy: disable-error-code="union-attr,arg-type,index,list-item,assignment"

import ast
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from mmspike.analysis.flips import FlipReport, Flips

from .engines import AS_WRITTEN, Session, default_precision, installed_engines, open_session

#: share of the first layer that differs, up to which it is rounding: a membrane that lies within a float32 of a threshold
ROUNDING = 1e-4


@dataclass
class EngineCheck:
    """The result of a file in an engine, beside PyTorch's.

    Attributes:
        engine, version, precision: What ran it.
        spikes: How many spikes differ from PyTorch's, by neuron layer.
    """

    engine: str
    version: str | None
    precision: str
    spikes: FlipReport

    @property
    def same(self) -> bool:
        """Equal but for rounding: in the first layer that differs at all, hardly a spike does."""
        first = self.spikes.layers.get(self.spikes.first)
        return first is None or first.flipped <= max(1, ROUNDING * first.outputs)

    def __str__(self) -> str:
        text = f'{self.engine} {self.version}, {self.precision}: {self.spikes} ({self.spikes.total.share:.3%})'
        return text if self.same else f'{text}: it computes the network differently'


def neurons_of(graph: ir.Graph, package: str = 'mmspike.deploy.plain.') -> dict[str, ir.Value]:
    """Path of each neuron in the exported module -> what it sends, from what the exporter wrote about the nodes."""
    found: dict[str, ir.Value] = {}
    for node in graph:
        path = scope_of(node, package)
        if path is not None:
            found[path] = node.outputs[0]
    return found


def scope_of(node: ir.Node, package: str) -> str | None:
    """Path of the module that a node is part of, if its class is in ``package``; None if there is none."""
    classes = node.metadata_props.get('pkg.torch.onnx.class_hierarchy')
    scopes = node.metadata_props.get('pkg.torch.onnx.name_scopes')
    if classes is None or scopes is None:
        return None
    pairs = zip(ast.literal_eval(classes), ast.literal_eval(scopes), strict=True)
    return next((scope for name, scope in pairs if name.startswith(package)), None)


def tapped(path: str | Path) -> tuple[bytes, dict[str, str]]:
    """The content of a file whose outputs are what its neurons send, too; and path of each neuron -> name of that output."""
    model = ir.load(path)
    neurons = neurons_of(model.graph)
    for value in neurons.values():
        if value not in model.graph.outputs:
            model.graph.outputs.append(value)
    return ir.to_proto(model).SerializeToString(), {path: str(value.name) for path, value in neurons.items()}


def spikes_in_pytorch(module: nn.Module, names: list[str], inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The spikes that the modules of these paths send for an input."""
    seen: dict[str, np.ndarray] = {}
    handles = [
        module.get_submodule(name).register_forward_hook(lambda m, args, out, name=name: seen.update({name: out.numpy()}))
        for name in names
    ]
    try:
        with torch.no_grad():
            module(torch.from_numpy(inputs))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def check_engine(
    path: str | Path,
    module: nn.Module,
    inputs: np.ndarray | Iterable[np.ndarray],
    engine: str,
    precision: str = 'float32',
    as_written: bool = False,
) -> EngineCheck:
    """Run a file in an engine and compare what all neurons send with PyTorch.

    Args:
        path: ONNX file.
        module: What was exported, on the CPU, with the weights of the file, see :func:`with_weights`.
        inputs: A preprocessed image or recording, float32, or several.
        engine, precision, as_written: See :func:`mmspike.deploy.engines.open_session`.

    Raises:
        UserError: The engine is missing, or cannot run the file.
        ValueError: The file does not say which of its nodes are neurons: it was not exported by this project.
    """
    content, names = tapped(path)
    if not names:
        raise ValueError(f'{path} does not say which of its nodes are neurons: it was not written by deploy.py, or stripped')
    session: Session = open_session(content, engine, precision=precision, as_written=as_written)
    found = FlipReport()
    for image in [inputs] if isinstance(inputs, np.ndarray) else inputs:
        out = session(image)
        found.batches += 1
        for path_of, spikes in spikes_in_pytorch(module, list(names), image).items():  # in the order of execution
            name = path_of.removeprefix('network.')
            counts, got = spikes.reshape(-1).round(), out[names[path_of]].reshape(-1).round()
            flips = Flips(name, counts.size, int(counts.sum()), int((counts != got).sum()))
            found.layers.setdefault(name, Flips(name)).add(flips)
    return EngineCheck(engine, session.version, precision, found)


def with_weights(module: nn.Module, weights: Mapping[str, np.ndarray]) -> nn.Module:
    """A copy of an exported module with other values of some parameters.

    Raises:
        ValueError: It has no parameter of that name and shape.
    """
    module = deepcopy(module)
    parameters = dict(module.named_parameters())
    for name, values in weights.items():
        if name not in parameters or parameters[name].shape != values.shape:
            raise ValueError(f'{name} {list(values.shape)}: the exported module has no such parameter')
        parameters[name].data = torch.from_numpy(values).to(parameters[name])
    return module


def mended(path: str | Path, module: nn.Module, inputs: np.ndarray, engine: str) -> str:
    """What to do about an engine that computes a file differently: the setting with which it does not, if there is one."""
    check = check_engine(path, module, inputs, engine, as_written=True)
    if check.same:
        return f'set {AS_WRITTEN[engine]}, with which {check.spikes.total.flipped} of {check.spikes.total.outputs} differ'
    return f'another engine; with {AS_WRITTEN[engine]}, too, {check.spikes.total.share:.3%} differ'


def bfloat16_warning(path: str | Path, module: nn.Module, inputs: np.ndarray) -> str | None:
    """A warning of what OpenVINO does to spikes by default on CPUs that compute in bfloat16, with the setting that mends it.

    Returns:
        None where it keeps them, as on CPUs without, or is not installed.
    """
    if 'openvino' not in installed_engines() or default_precision('openvino') != 'bfloat16':
        return None
    check = check_engine(path, module, inputs, 'openvino', 'bfloat16')
    if check.same:
        return None
    return (
        f'openvino flips {check.spikes.total.share:.1%} of the spikes in bfloat16, its default on this CPU: set '
        "INFERENCE_PRECISION_HINT to 'f32', as mmspike's tools do"
    )
