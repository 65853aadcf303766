#!/usr/bin/env bash
# onnxruntime 1.31.1's quantize_static makes the counts 0 to 4 of a spiking neuron inexact: their range is spread over 256 levels, of which none
# is 1, and 1 comes back as 1.0039. A scale of 1 would hold them all exactly. The convolution behind it reads what was never sent.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.5.5
cat > counts.py <<'PYTHON_CODE'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

nodes = [
    helper.make_node('Clip', ['x', 'low', 'high'], ['c']),
    helper.make_node('Round', ['c'], ['counts']),
    helper.make_node('Conv', ['counts', 'w'], ['y'], kernel_shape=[1, 1]),
]
values = [('low', np.float32(0)), ('high', np.float32(4)), ('w', np.ones((1, 1, 1, 1), np.float32))]
ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 1, 5]) for n in ('x', 'y')]
graph = helper.make_graph(nodes, 'neuron', ends[:1], ends[1:], [numpy_helper.from_array(v, n) for n, v in values])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), 'neuron.onnx')
x = np.float32([0, 1, 2, 3, 4]).reshape(1, 1, 1, 5)


class Reader(CalibrationDataReader):
    data = [{'x': x}]

    def get_next(self):
        return self.data.pop() if self.data else None


quantize_static('neuron.onnx', 'int8.onnx', Reader(), quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8)
model = onnx.load('int8.onnx')
(node,) = [n for n in model.graph.node if n.op_type == 'DequantizeLinear' and n.input[0] == 'counts_QuantizeLinear_Output']
model.graph.output.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1, 1, 1, 5]))
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
print('sent:', *x.ravel())
print('read:', *(f'{v:.4f}' for v in session.run([node.output[0]], {'x': x})[0].ravel()))
PYTHON_CODE
env/bin/python counts.py 2> err.log | tee out.txt || { cat err.log; exit 1; }
grep -q 'read: 0.0000 1.0039 1.9922 2.9961 4.0000' out.txt
