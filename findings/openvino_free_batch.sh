#!/usr/bin/env bash
# OpenVINO 2026.4.1 refuses to compile a valid ONNX file that exchanges two dimensions between two reshapes, as attentions do with tokens and
# heads, if the batch is free: its ShuffleChannelsFusion asks for the length of a dimension that has none. With a fixed batch it runs.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check openvino==2026.4.1 onnxruntime==1.31.1 onnx==1.23.2 numpy==2.5.5
cat > heads.py <<'PYTHON_CODE'
import numpy as np
import onnx
import onnxruntime
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

REASON = 'Cannot get length of dynamic dimension'


def outcome(batch):
    nodes = [
        helper.make_node('Reshape', ['x', 'apart'], ['a']),
        helper.make_node('Transpose', ['a'], ['b'], perm=[0, 1, 3, 2, 4]),
        helper.make_node('Reshape', ['b', 'together'], ['y']),
    ]
    shapes = dict(apart=[1, -1, 16, 4, 8], together=[-1, 4, 16, 8])
    constants = [numpy_helper.from_array(np.array(shape), name) for name, shape in shapes.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, *s]) for n, s in (('x', [16, 4, 8]), ('y', [4, 16, 8]))]
    graph = helper.make_graph(nodes, 'heads', ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    x = np.random.default_rng(0).standard_normal((2, 16, 4, 8)).astype(np.float32)
    assert (onnxruntime.InferenceSession(content).run(None, {'x': x})[0] == x.transpose(0, 2, 1, 3)).all()
    core = ov.Core()
    try:
        (out,) = core.compile_model(core.read_model(content), 'CPU')([x]).values()
    except RuntimeError as error:
        return f'refused, ShuffleChannelsFusion: {REASON}' if 'ShuffleChannelsFusion' in (text := str(error)) and REASON in text else text
    return 'runs' if (out == x.transpose(0, 2, 1, 3)).all() else 'other numbers'


for batch in ('batch', 2):
    print(f'[{batch}, 16, 4, 8]: {outcome(batch)}')
PYTHON_CODE
env/bin/python heads.py 2> err.log | tee out.txt || { cat err.log; exit 1; }
grep -qxF '[batch, 16, 4, 8]: refused, ShuffleChannelsFusion: Cannot get length of dynamic dimension' out.txt
grep -qxF '[2, 16, 4, 8]: runs' out.txt
