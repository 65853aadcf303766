#!/usr/bin/env bash
# MNN 3.6.1 rounds halves away from zero in ONNX's Round, which rounds them to even (ONNX operator Round, opset 11; onnxruntime
# 1.31.1 beside it): a neuron that rounds its membrane fires once more at 0.5 and 2.5.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv onnx_env
"${PYTHON:-python3}" -m venv mnn_env  # MNN wants an older protobuf than onnx
onnx_env/bin/pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 numpy==2.5.5
mnn_env/bin/pip install --quiet --disable-pip-version-check MNN==3.6.1 numpy==2.5.5
cat > by_onnxruntime.py <<'PYTHON_CODE'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 5]) for name in 'xy')
graph = helper.make_graph([helper.make_node('Round', ['x'], ['y'])], 'round', [x], [y])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), 'round.onnx')
print(*onnxruntime.InferenceSession('round.onnx').run(None, {'x': np.float32([[0.5, 1.5, 2.5, 3.5, 4.5]])})[0][0])
PYTHON_CODE
cat > by_mnn.py <<'PYTHON_CODE'
import MNN
import numpy as np

module = MNN.nn.load_module_from_file('round.mnn', ['x'], ['y'])
x = MNN.expr.const(np.float32([[0.5, 1.5, 2.5, 3.5, 4.5]]), [1, 5], MNN.expr.NCHW)
print(*np.array(module.forward([x])[0].read())[0])
PYTHON_CODE
right=$(onnx_env/bin/python by_onnxruntime.py)
# what mnnconvert calls; that one installs a package, see mnn_installs.sh
mnn_env/bin/python -c 'import sys, _tools; _tools.mnnconvert(sys.argv)' \
    -f ONNX --modelFile round.onnx --MNNModel round.mnn --bizCode spikes > convert.log 2>&1
here=$(mnn_env/bin/python by_mnn.py 2> mnn.log | tail -n 1)
echo "x:           0.5 1.5 2.5 3.5 4.5"
echo "onnxruntime: $right"
echo "MNN:         $here"
[ "$right" = '0.0 2.0 2.0 4.0 4.0' ] && [ "$here" = '1.0 2.0 3.0 4.0 5.0' ]
