"""ONNX graphs of spiking networks without the reshapes between [T, B, ...] and [T*B, ...] that only PyTorch needs."""

# onnx_ir types whatever a node has as optional
# mypy: disable-error-code="union-attr,arg-type,index,list-item,assignment"

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

#: what computes every element by itself
ELEMENTWISE = ('Add', 'Sub', 'Mul', 'Div', 'Clip', 'Round', 'Floor', 'Relu', 'GreaterOrEqual', 'Cast', 'Identity', 'Sigmoid')


#: of each node, the classes and names of the modules that it is part of
KEPT = ('pkg.torch.onnx.class_hierarchy', 'pkg.torch.onnx.name_scopes')


def keep_folded(model: ir.Model) -> ir.Model:
    """Let neurons and sums run on [T*B, C, H, W], in place.

    The layers of a network stand on 4 dimensions, its neurons on 5, and engines fuse a convolution, the sum and the neuron
    behind it only where nothing stands between them. The function stays the same.
    """
    graph = model.graph
    folded: dict[ir.Value, ir.Value] = {}  # [T, B, ...] -> the same as [T*B, ...]
    outputs = set(graph.outputs)
    for node in list(graph):
        if len(node.outputs) != 1 or node.outputs[0].shape is None:
            continue
        x, out = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type in ('Reshape', 'Squeeze', 'Unsqueeze', 'Flatten') and x is not None and x.shape is not None:
            if _merges(out, x):
                folded[out] = x
            elif _merges(x, out):
                if x not in folded:
                    folded[x] = out
                elif out not in outputs:
                    out.replace_all_uses_with(folded[x])
            elif node.op_type == 'Reshape':
                if x in folded:
                    node.replace_input_with(0, folded[x])
                if len(out.shape) == 5 and _sizes_known(out):
                    folded[out] = _reshape(graph, node, node.inputs[0], ir.Shape([None, *out.shape[2:]]))
        elif node.op_type == 'Transpose' and x in folded and _perm(node)[:2] == [0, 1]:
            _fold_transpose(graph, node, folded)
        elif node.op_type in ('Expand', 'Transpose', 'Concat') and len(out.shape) == 5 and _sizes_known(out):
            folded[out] = _reshape(graph, node, out, ir.Shape([None, *out.shape[2:]]), behind=True)
        elif node.op_type == 'ReduceMean' and x in folded and x.shape[0] == 1 and _merges(x, out) and out not in outputs:
            out.replace_all_uses_with(folded[x])
        elif node.op_type in ELEMENTWISE and _all_folded(node, folded):
            _fold_elementwise(graph, node, folded)
    RemoveUnusedNodesPass()(model)
    return model


def shorten(model: ir.Model) -> ir.Model:
    """Leave of what the exporter writes about nodes only whose they are, in place: stack traces are a tenth of a file."""
    for node in model.graph:
        node.doc_string = None
        for key in set(node.metadata_props) - set(KEPT):
            del node.metadata_props[key]
        for value in node.outputs:
            value.metadata_props.clear()
    return model


def _merges(apart: ir.Value, together: ir.Value) -> bool:
    """True if ``together`` has the first two dimensions of ``apart`` as one, and all others alike."""
    a, b = apart.shape, together.shape
    return a is not None and b is not None and len(a) == len(b) + 1 and len(b) > 1 and list(a[2:]) == list(b[1:])


def _sizes_known(value: ir.Value) -> bool:
    """True if all dimensions but the second are numbers."""
    return all(isinstance(s, int) for s in (value.shape[0], *value.shape[2:]))


def _all_folded(node: ir.Node, folded: dict) -> bool:
    shape = node.outputs[0].shape
    tensors = [v for v in node.inputs if v is not None and v.const_value is None]
    constants = [v for v in node.inputs if v is not None and v.const_value is not None]
    return (
        bool(tensors)
        and len(shape) > 2
        and _sizes_known(node.outputs[0])
        and all(v in folded and v.shape == shape for v in tensors)
        and all(len(v.const_value.shape) < len(shape) - 1 for v in constants)
    )


def _fold_elementwise(graph: ir.Graph, node: ir.Node, folded: dict) -> None:
    inputs = [folded.get(v, v) for v in node.inputs]
    _fold(graph, node, inputs, [*node.attributes.values()], folded)


def _fold_transpose(graph: ir.Graph, node: ir.Node, folded: dict) -> None:
    """Of what leaves time and batch in their places. OpenVINO 2026.4.1 refuses it between two reshapes if the batch is free."""
    perm = [0, *(axis - 1 for axis in _perm(node)[2:])]
    _fold(graph, node, [folded[node.inputs[0]]], [ir.AttrInt64s('perm', perm)], folded)


def _perm(node: ir.Node) -> list[int]:
    return list(node.attributes.get_ints('perm'))


def _fold(graph: ir.Graph, node: ir.Node, inputs: list, attributes: list[ir.Attr], folded: dict) -> None:
    """Run an operation on folded inputs, and unfold its output for whoever wants that."""
    out = node.outputs[0]
    new = ir.Node(node.domain, node.op_type, inputs, attributes, version=node.version)
    new.metadata_props.update(node.metadata_props)
    new.outputs[0].name, new.outputs[0].type = f'{out.name}_folded', out.type
    first = next(v for v in inputs if v is not None and v.const_value is None)
    new.outputs[0].shape = ir.Shape([first.shape[0], *out.shape[2:]])
    graph.insert_before(node, new)
    unfolded = _reshape(graph, node, new.outputs[0], out.shape)
    name = out.name
    out.replace_all_uses_with(unfolded, replace_graph_outputs=True)
    out.name, unfolded.name = f'{name}_before', name
    graph.remove(node, safe=True)
    folded[unfolded] = new.outputs[0]


def _reshape(graph: ir.Graph, at: ir.Node, value: ir.Value, shape: ir.Shape, behind: bool = False) -> ir.Value:
    """``value`` in another shape, one dimension of which may be no number, in front of the node ``at`` or behind it."""
    name = f'{value.name}_to_{len(shape)}_{len(graph.initializers)}'
    target = ir.tensor([s if isinstance(s, int) else -1 for s in shape], dtype=ir.DataType.INT64, name=name)
    sizes = ir.Value(name=name, shape=target.shape, type=ir.TensorType(target.dtype), const_value=target)
    graph.register_initializer(sizes)
    node = ir.Node('', 'Reshape', [value, sizes], version=at.version)
    node.outputs[0].type, node.outputs[0].shape = value.type, shape
    (graph.insert_after if behind else graph.insert_before)(at, node)
    return node.outputs[0]
