#!/usr/bin/env bash
# onnxscript 0.7.2's optimizer, which torch.onnx.export runs, gives two initializers one name where a tensor is limited twice, and drops one:
# the model is not valid (IR specification of ONNX: an input of a node names a graph input, an initializer or an output). Two neurons on one
# membrane, clamped to counts 0 to 4, are such a model. Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a
# package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnxscript==0.7.2 onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.31.1 numpy==2.5.5
cat > clips.py <<'PYTHON_CODE'
import numpy as np
import onnx
import onnxruntime
import onnxscript
from onnx import TensorProto, helper, numpy_helper

nodes, outputs = [], []
for i in range(2):  # as torch.clamp(x, 0, 4) is exported
    nodes += [helper.make_node('Max', ['x', 'low'], [f'm{i}']), helper.make_node('Min', [f'm{i}', 'high'], [f'c{i}'])]
    nodes.append(helper.make_node('Round', [f'c{i}'], [f'y{i}']))
    outputs.append(helper.make_tensor_value_info(f'y{i}', TensorProto.FLOAT, [3]))
limits = [numpy_helper.from_array(np.float32(v), n) for n, v in (('low', 0), ('high', 4))]
x = helper.make_tensor_value_info('x', TensorProto.FLOAT, [3])
graph = helper.make_graph(nodes, 'two_neurons', [x], outputs, limits)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
onnx.checker.check_model(model)
for name, one in (('as written', model), ('optimized', onnxscript.optimizer.optimize(model))):
    try:
        session = onnxruntime.InferenceSession(one.SerializeToString(), providers=['CPUExecutionProvider'])
        print(f'{name}: {session.run(None, {"x": np.float32([-1, 1.7, 9])})[0].tolist()}')
    except Exception as error:
        print(f'{name}: {str(error).split(": ")[-1]}')
PYTHON_CODE
env/bin/python clips.py 2> err.log | tee out.txt || { cat err.log; exit 1; }
grep -q 'as written: \[0.0, 2.0, 4.0\]' out.txt && grep -q 'optimized: .*is not a graph input, initializer, or output of a previous node' out.txt
