#!/usr/bin/env bash
# OpenVINO 2026.4.1's save_model writes float32 weights in half precision unless it is told otherwise, and what it reads back computes with
# these, in float32: a membrane right below a threshold reaches it and the neuron fires. Exits 1 if that has changed.
# Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check openvino==2026.4.1 onnx==1.23.2 numpy==2.5.5
cat > halves.py <<'PYTHON_CODE'
import numpy as np
import onnx
import openvino as ov
from onnx import TensorProto, helper, numpy_helper

nodes = [
    helper.make_node('MatMul', ['x', 'w'], ['membrane']),
    helper.make_node('GreaterOrEqual', ['membrane', 'threshold'], ['fires']),
    helper.make_node('Cast', ['fires'], ['y'], to=TensorProto.FLOAT),
]
values = [('w', np.float32(0.9999) * np.eye(64, dtype=np.float32)), ('threshold', np.float32(1))]
ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 64]) for n in ('x', 'y')]
graph = helper.make_graph(nodes, 'neurons', ends[:1], ends[1:], [numpy_helper.from_array(v, n) for n, v in values])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), 'neurons.onnx')
core, x = ov.Core(), np.ones((1, 64), np.float32)
model = core.read_model('neurons.onnx')
ov.save_model(model, 'default.xml')
ov.save_model(model, 'whole.xml', compress_to_fp16=False)
for name in ('neurons.onnx', 'default.xml', 'whole.xml'):
    run = core.compile_model(core.read_model(name), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    print(f'{name}: {int(run([x])[0].sum())} of 64 fire')
PYTHON_CODE
env/bin/python halves.py 2> err.log | tee out.txt || { cat err.log; exit 1; }
[ "$(tr '\n' ' ' < out.txt)" = 'neurons.onnx: 0 of 64 fire default.xml: 64 of 64 fire whole.xml: 0 of 64 fire ' ]
