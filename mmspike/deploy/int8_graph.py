"""ONNX graphs in integers: spikes in 8 bits without calibration, weights in 8 bits, in the form that an engine fuses.

Counts are whole numbers, so that quantising them with scale 1 loses nothing, and ``Clip`` and ``QuantizeLinear`` are the SFA
neuron: it rounds halves to even. Membranes, which are sums, stay float32.

- OpenVINO takes ``QuantizeLinear``, ``DequantizeLinear`` and ordinary convolutions, and makes one integer operation of a
  convolution, the sum with a shortcut and the neuron behind it.
- onnxruntime takes operators of integers: ``QLinearConv`` where a neuron follows, ``ConvInteger`` where a membrane does.
"""

# onnx_ir types whatever a node has as optional
# mypy: disable-error-code="union-attr,arg-type,index,list-item,assignment"

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from .engine_check import scope_of
from .int8_correction import keep_sums
from .int8_counts import LARGEST, LAYOUT, clipped_at, constant, largest_counts
from .int8_weights import quantize_weight

FLOAT, UINT8, INT8, INT32 = ir.DataType.FLOAT, ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT32
#: largest count that int8 holds, too
HALF = 127


@dataclass(frozen=True)
class Pixels:
    """The numbers of an image in 8 bits: pixel = (number - zero) * scale.

    Example:
        >>> Pixels.between(-25.0, 38.75)
        Pixels(scale=0.25, zero=100)
    """

    scale: float
    zero: int

    @classmethod
    def between(cls, low: float, high: float) -> 'Pixels':
        """256 steps from ``low`` to ``high``; 0, with which convolutions and batches pad, is one of them."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255
        return cls(scale, round(-low / scale))

    def rounded(self, image: np.ndarray) -> np.ndarray:
        """What is left of an image, float32."""
        numbers = (image / np.float32(self.scale)).round() + self.zero
        return ((numbers.clip(0, 255) - self.zero) * np.float32(self.scale)).astype(np.float32)


class Int8Graph:
    """A graph of float32 that is rewritten in place; :func:`quantize` runs it.

    Args:
        graph: Of a folded network with plain neurons.
        fused: Write QuantizeLinear and DequantizeLinear around ordinary operators, else operators of integers.
        corrected: Round weights by :func:`mmspike.deploy.int8_correction.keep_sums`.
        pixels: Let convolutions of the image read it in 8 bits; None: in float32.

    Attributes:
        weights: Name of each parameter of the exported module that was rounded -> what it is now, float32.
    """

    def __init__(self, graph: ir.Graph, fused: bool, corrected: bool = False, pixels: Pixels | None = None) -> None:
        self.graph, self.fused, self.corrected, self.pixels = graph, fused, corrected, pixels
        self.counts = largest_counts(graph)
        self.weights: dict[str, np.ndarray] = {}
        self.done = 0  # operations in integers
        self._spikes: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._floats: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self._constants: dict[Any, ir.Value] = {}

    def quantize(self) -> None:
        for node in list(self.graph):
            if len(node.inputs) < 2:
                continue
            weight = constant(node.inputs[1])
            if self.pixels and node.op_type == 'Conv' and weight is not None and self._sees_image(node.inputs[0]):
                self._image_conv(node, self.pixels)
                continue
            if self._largest(node.inputs[0]) > LARGEST:
                continue
            if weight is None and node.op_type == 'MatMul' and self._largest(node.inputs[1]) <= HALF:
                self._product(node)
            elif weight is not None and node.op_type == 'Conv':
                self._dequantized(node, 0) if self.fused else self._integer_conv(node)
            elif weight is not None and node.op_type in ('Gemm', 'MatMul') and weight.ndim == 2:
                self._linear(node)
        self._share_floats()

    def _largest(self, value: ir.Value | None) -> int:
        return LARGEST + 1 if value is None else self.counts.get(value, LARGEST + 1)

    def _sees_image(self, value: ir.Value | None) -> bool:
        while value is not None and value.producer() is not None and value.producer().op_type in (*LAYOUT, 'Expand'):
            value = value.producer().inputs[0]
        return value in self.graph.inputs

    def _image_conv(self, node: ir.Node, pixels: Pixels) -> None:
        """A convolution of the image, whose pixels are rounded to 8 bits."""
        x, out = node.inputs[0], node.outputs[0]
        dtype = UINT8 if self.fused else INT8  # as for spikes, see _integer_conv
        zero = self.const(np.array(pixels.zero - (0 if self.fused else 128), dtype.numpy()), None)
        scale = self.const(np.float32(pixels.scale), None)
        numbers = self.emit(node, 'QuantizeLinear', [x, scale, zero], dtype, x.shape)
        if self.fused:
            self._dequantized(node, 0, self.emit(node, 'DequantizeLinear', [numbers, scale, zero], FLOAT, x.shape))
            return
        weights, scales = self._rounded(node, 0)
        shifted = self.const((weights.astype(np.int16) + 128).astype(np.uint8), node)
        y = self.emit(
            node, 'ConvInteger', [numbers, shifted, zero, self.const(np.uint8(128), node)], INT32, out.shape, like=node
        )
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        self._membrane(node, y, pixels.scale * scales.reshape(-1, *[1] * (weights.ndim - 2)), bias)

    def _product(self, node: ir.Node) -> None:
        """Counts times counts, as in an attention: uint8 times int8, which is what instructions of the CPU multiply."""
        out = node.outputs[0]
        if self.fused:
            for i, dtype in enumerate((UINT8, INT8)):
                node.replace_input_with(i, self.floats(node.inputs[i], dtype))
            return
        inputs = [self.spikes(v, dtype) for v, dtype in zip(node.inputs, (UINT8, INT8), strict=True) if v is not None]
        y = self.emit(node, 'MatMulInteger', inputs, INT32, out.shape)
        self._replace(out, self.emit(node, 'Cast', [y], FLOAT, out.shape, to=int(FLOAT)))

    def _linear(self, node: ir.Node) -> None:
        """A linear layer, with weights [out, in] (Gemm with transB) or [in, out]."""
        transposed = node.op_type == 'Gemm' and node.attributes.get_int('transB', 0)
        axis = 0 if transposed else 1
        if self.fused or node.op_type == 'Gemm' and node.attributes.get_int('transA', 0):
            self._dequantized(node, axis)
            return
        x, out = node.inputs[0], node.outputs[0]
        numbers, scale = self._rounded(node, axis)
        numbers = np.ascontiguousarray(numbers.T if transposed else numbers)
        y = self.emit(node, 'MatMulInteger', [self.spikes(x, UINT8), self.const(numbers, node)], INT32, out.shape)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        self._membrane(node, y, scale, bias)

    def _dequantized(self, node: ir.Node, axis: int, data: ir.Value | None = None) -> None:
        """Data, by default counts, and weights dequantised before the ordinary operator: an engine makes an integer one."""
        numbers, scale = self._rounded(node, axis)
        zeros = self.const(np.zeros(len(scale), np.int8), node)
        inputs = [self.const(numbers, node), self.const(scale, node), zeros]
        weight = self.emit(node, 'DequantizeLinear', inputs, FLOAT, ir.Shape(numbers.shape), axis=axis)
        node.replace_input_with(0, self.floats(node.inputs[0]) if data is None else data)
        node.replace_input_with(1, weight)

    def _integer_conv(self, node: ir.Node) -> None:
        x, out = node.inputs[0], node.outputs[0]
        numbers, scale = self._rounded(node, 0)
        neuron = self._neuron_behind(out)
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if neuron is None:
            # int8 counts times uint8 weights: onnxruntime takes 10 times as long for uint8 times int8
            dtype = INT8 if self.counts[x] <= HALF else UINT8
            shifted = (numbers.astype(np.int16) + 128).astype(np.uint8)
            inputs = [self.spikes(x, dtype), self.const(shifted, node), self.zero(dtype), self.const(np.uint8(128), node)]
            y = self.emit(node, 'ConvInteger', inputs, INT32, out.shape, like=node)
            self._membrane(node, y, scale.reshape(-1, *[1] * (numbers.ndim - 2)), bias)
            return
        whole = np.zeros(len(scale), np.int32)
        if bias is not None:
            whole = (bias.astype(np.float64) / scale).round().clip(-(2**31), 2**31 - 1).astype(np.int32)
            self.weights[node.inputs[2].name] = (whole * scale.astype(np.float64)).astype(np.float32)
        parts = [self.const(numbers, node), self.const(scale, node), self.const(np.zeros(len(scale), np.int8), node)]
        one, zero = self.one(), self.zero(UINT8)
        inputs = [self.spikes(x, UINT8), one, zero, *parts, one, zero, self.const(whole, node)]
        y = self.emit(node, 'QLinearConv', inputs, UINT8, out.shape, like=node)
        spikes = neuron.outputs[0]
        levels = self.const(np.uint8(self.counts[spikes]), node)
        self._spikes[spikes, UINT8] = self.emit(node, 'Clip', [y, zero, levels], UINT8, out.shape, about=neuron)

    def _membrane(self, node: ir.Node, y: ir.Value, scale: np.ndarray, bias: ir.Value | np.ndarray | None) -> None:
        """Float32 of whole numbers ``y``, in the place of a node's output."""
        out = node.outputs[0]
        y = self.emit(node, 'Cast', [y], FLOAT, out.shape, to=int(FLOAT))
        y = self.emit(node, 'Mul', [y, self.const(scale.astype(np.float32), node)], FLOAT, out.shape)
        if bias is not None:
            if isinstance(bias, np.ndarray):
                bias = self.const(bias.reshape(scale.shape), node)
            y = self.emit(node, 'Add', [y, bias], FLOAT, out.shape)
        self._replace(out, y)

    @staticmethod
    def _replace(out: ir.Value, by: ir.Value) -> None:
        name = out.name
        out.replace_all_uses_with(by, replace_graph_outputs=True)
        out.name, by.name = f'{name}_before', name

    def _neuron_behind(self, value: ir.Value) -> ir.Node | None:
        """The Round of an SFA neuron that alone reads ``value``."""
        clips = [node for node, _ in value.uses()]
        if value.is_graph_output() or len(clips) != 1 or clips[0].op_type != 'Clip':
            return None
        readers = [node for node, _ in clips[0].outputs[0].uses()]
        if len(readers) != 1 or readers[0].op_type != 'Round' or readers[0].outputs[0].is_graph_output():
            return None
        return readers[0] if clipped_at(readers[0].inputs[0]) is not None else None

    def spikes(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The counts ``value`` as integers."""
        if (value, dtype) in self._spikes:
            return self._spikes[value, dtype]
        node = value.producer()
        if (value, UINT8) in self._spikes:
            before = self._spikes[value, UINT8]
            out = self.emit(self._after(before.producer()), 'Cast', [before], dtype, value.shape, to=int(dtype))
        elif node.op_type == 'Round' and clipped_at(node.inputs[0]) is not None:
            out = self._neuron(node, dtype)
        elif self.fused and self._fires(value):  # engines take what QuantizeLinear makes for integers, but not a Cast
            out = self._quantized(value, dtype)
        elif node.op_type == 'Cast':
            out = self.emit(node, 'Cast', [node.inputs[0]], dtype, value.shape, about=node, to=int(dtype))
        elif node.op_type in LAYOUT and len(node.outputs) == 1:
            inputs = [self.spikes(v, dtype) if v in self.counts else v for v in node.inputs]
            out = self.emit(node, node.op_type, inputs, dtype, value.shape, about=node, like=node)
        else:
            out = self._quantized(value, dtype)
        self._spikes[value, dtype] = out
        return out

    def _quantized(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        node, inputs = value.producer(), [value, self.one(), self.zero(dtype)]
        return self.emit(self._after(node), 'QuantizeLinear', inputs, dtype, value.shape, about=node)

    @staticmethod
    def _fires(value: ir.Value) -> bool:
        """Whether it has the spikes of a comparison, perhaps moved."""
        node = value.producer()
        while node is not None and node.op_type in LAYOUT:
            node = node.inputs[0].producer()
        return node is not None and node.op_type == 'Cast'

    def _after(self, node: ir.Node) -> ir.Node:
        """The node behind another one; neurons are never last."""
        return self.graph.node(list(self.graph).index(node) + 1)

    def _neuron(self, node: ir.Node, dtype: ir.DataType) -> ir.Value:
        """Clip and round as QuantizeLinear: the clip before it for what fuses both, else behind it, on bytes."""
        shape, one, zero = node.outputs[0].shape, self.one(), self.zero(dtype)
        if self.fused:
            return self.emit(node, 'QuantizeLinear', [node.inputs[0], one, zero], dtype, shape, about=node)
        clip = node.inputs[0].producer()
        y = self.emit(node, 'QuantizeLinear', [clip.inputs[0], one, zero], dtype, shape)
        levels = self.const(np.array(self.counts[node.outputs[0]], dtype.numpy()), node)
        return self.emit(node, 'Clip', [y, zero, levels], dtype, shape, about=node)

    def floats(self, value: ir.Value, dtype: ir.DataType = UINT8) -> ir.Value:
        """The counts ``value`` as float32, from their integers."""
        if (value, dtype) not in self._floats:
            spikes = self.spikes(value, dtype)
            inputs = [spikes, self.one(), self.zero(dtype)]
            self._floats[value, dtype] = self.emit(
                self._after(spikes.producer()), 'DequantizeLinear', inputs, FLOAT, value.shape
            )
        return self._floats[value, dtype]

    def _share_floats(self) -> None:
        """Let whoever reads a neuron in float32 read what was made of its integers, so that it runs once."""
        for value, dtype in list(self._spikes):
            if value.producer().op_type == 'Round' and value.uses():
                value.replace_all_uses_with(self.floats(value, dtype))

    def _rounded(self, node: ir.Node, axis: int) -> tuple[np.ndarray, np.ndarray]:
        weight = constant(node.inputs[1])
        self.done += 1
        numbers, scale = quantize_weight(weight, axis)
        if self.corrected and (scale != 1).any():  # whole numbers stay
            numbers = keep_sums(weight, numbers, scale, axis)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        rounded = numbers * scale.reshape(shape)
        linear = scope_of(node, 'torch.nn.modules.linear.')
        if (rounded == weight).all():  # no parameter, perhaps, but the ones of a sum
            pass
        elif linear is None:
            self.weights[node.inputs[1].name] = rounded
        else:  # torch keeps it as [out, in]; the exporter may have turned it round
            self.weights[f'{linear}.weight'] = np.ascontiguousarray(rounded if axis == 0 else rounded.T)
        return numbers, scale

    def one(self) -> ir.Value:
        return self.const(np.float32(1), None)

    def zero(self, dtype: ir.DataType) -> ir.Value:
        return self.const(np.zeros((), dtype.numpy()), None)

    def const(self, array: np.ndarray | np.generic, node: ir.Node | None) -> ir.Value:
        """A constant; of one value, the same for all."""
        array = np.asarray(array)
        key = (array.dtype.str, array.item()) if array.size == 1 and array.ndim == 0 else len(self._constants)
        if key not in self._constants:
            name = f'{node.name if node else "spike"}_{array.dtype}_{len(self._constants)}'
            tensor = ir.tensor(array, name=name)
            value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
            self.graph.register_initializer(value)
            self._constants[key] = value
        return self._constants[key]

    def emit(
        self,
        before: ir.Node,
        op: str,
        inputs: Sequence[ir.Value | None],
        dtype: ir.DataType,
        shape: ir.Shape | None,
        about: ir.Node | None = None,
        like: ir.Node | None = None,
        **attributes: int,
    ) -> ir.Value:
        """A new node's output. ``about``: the node whose place in the network it has; ``like``: whose attributes."""
        given = [ir.Attr(a.name, a.type, a.value) for a in like.attributes.values()] if like is not None else []
        given += [ir.AttrInt64(name, value) for name, value in attributes.items()]
        node = ir.Node('', op, inputs, given)
        if about is not None:
            node.metadata_props.update(about.metadata_props)
        out = node.outputs[0]
        out.type, out.shape = ir.TensorType(dtype), shape
        self.graph.insert_before(before, node)
        return out


def quantize(model: ir.Model, engine: str, corrected: bool = False, pixels: Pixels | None = None) -> dict[str, np.ndarray]:
    """Write a folded network in integers, in place: what reads counts of spikes reads uint8, with weights of 8 bits.

    Args:
        model: ONNX of a folded network, see :func:`mmspike.deploy.onnx_layout.keep_folded`.
        engine: 'openvino' or 'onnxruntime', whose form it gets.
        corrected, pixels: See :class:`Int8Graph`.

    Returns:
        Name of each parameter of the exported module that was rounded (for onnxruntime biases, too) -> its values now.

    Raises:
        ValueError: Nothing in it reads spikes.
    """
    work = Int8Graph(model.graph, engine == 'openvino', corrected, pixels)
    work.quantize()
    if not work.done:
        raise ValueError('nothing in the network reads counts of spikes up to 255: there is nothing to write in integers')
    RemoveUnusedNodesPass()(model)
    model.graph.sort()
    used = {value for node in model.graph for value in node.inputs}
    for name, value in list(model.graph.initializers.items()):
        if value not in used:
            del model.graph.initializers[name]
    return work.weights
