#!/usr/bin/env bash
# OpenVINO 2026.4.1: once compiled, an output may give another name than the file's as its own (get_any_name, any_name): that of a
# tensor within, if the output is what an Identity or a Cast to the same type makes of it. Before compiling it gives the file's name,
# and onnxruntime 1.31.1 keeps it. Of two files that differ in the name of that tensor alone, one is affected: names are sorted.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 openvino==2026.4.1 numpy==2.5.5
env/bin/python - <<'PYTHON_CODE'
import sys

import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper


def names(inner):
    """The output of a convolution through an Identity: names in onnxruntime, in OpenVINO before and after compiling."""
    x = helper.make_tensor_value_info('inputs', TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info('masks', TensorProto.FLOAT, [1, 2, 8, 8])
    weight = helper.make_tensor('w', TensorProto.FLOAT, [2, 3, 1, 1], [1.0] * 6)
    nodes = [helper.make_node('Conv', ['inputs', 'w'], [inner]), helper.make_node('Identity', [inner], ['masks'])]
    graph = helper.make_graph(nodes, 'graph', [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    core = openvino.Core()
    network = core.read_model(content)
    compiled = core.compile_model(network, 'CPU')
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    found = [session.get_outputs()[0].name, network.outputs[0].get_any_name(), compiled.outputs[0].get_any_name()]
    assert compiled(np.ones((1, 3, 8, 8), np.float32))['masks'].shape == (1, 2, 8, 8)  # by its name it is found
    print(f'{inner}: onnxruntime {found[0]}, OpenVINO as read {found[1]}, compiled {found[2]}')
    return found


affected = names('conv2d_2') == ['masks', 'masks', 'conv2d_2']
sys.exit(not (affected and names('z_conv2d_2') == ['masks'] * 3))
PYTHON_CODE
