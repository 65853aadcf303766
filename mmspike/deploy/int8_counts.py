"""The spikes of an ONNX graph: which of its tensors hold whole numbers from 0 on, and how large they can be."""

# onnx_ir types whatever a node has as optional
# mypy: disable-error-code="union-attr,arg-type,index,list-item,assignment"

from math import prod

import numpy as np
import onnx_ir as ir

#: what moves elements and makes no new ones, all its tensors being counts
LAYOUT = (
    'Identity',
    'Reshape',
    'Squeeze',
    'Unsqueeze',
    'Transpose',
    'Flatten',
    'Gather',
    'Slice',
    'Split',
    'Concat',
    'MaxPool',
)
LARGEST = 255  # that uint8 holds


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The values of a constant; None for anything else."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def largest_counts(graph: ir.Graph) -> dict[ir.Value, int]:
    """Tensor -> the largest count that it can hold, for all tensors of counts."""
    counts: dict[ir.Value, int] = {}
    for node in graph:
        found = _largest(node, counts)
        if found is not None:
            counts |= dict.fromkeys(node.outputs, found)
    return counts


def _largest(node: ir.Node, counts: dict[ir.Value, int]) -> int | None:
    given = [counts.get(v) for v in node.inputs if v is not None and v.const_value is None]
    if node.op_type == 'Round':
        return clipped_at(node.inputs[0])
    if node.op_type == 'Floor':  # of neurons that round halves up
        before = node.inputs[0].producer()
        half = before is not None and before.op_type == 'Add' and constant(before.inputs[1])
        return clipped_at(before.inputs[0]) if half is not None and half is not False and np.all(half == 0.5) else None
    if node.op_type == 'Cast':
        return 1 if node.inputs[0].dtype == ir.DataType.BOOL else None
    if node.op_type in LAYOUT and given and all(c is not None for c in given[: None if node.op_type == 'Concat' else 1]):
        return max(c for c in given if c is not None)
    both = [c for c in given if c is not None]
    if node.op_type in ('Add', 'Mul') and len(both) == len(node.inputs):
        return sum(both) if node.op_type == 'Add' else prod(both)
    return None


def clipped_at(value: ir.Value) -> int | None:
    """The whole number D where ``value`` was clipped to 0 to D, else None."""
    node = value.producer()
    if node is None or node.op_type != 'Clip' or len(node.inputs) < 3:
        return None
    low, high = constant(node.inputs[1]), constant(node.inputs[2])
    if low is None or high is None or low.size != 1 or high.size != 1:
        return None
    return int(high.item()) if low.item() == 0 and high.item() == int(high.item()) else None
