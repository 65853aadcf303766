#!/usr/bin/env bash
# nir 1.0.8 works out shapes of convolutions wrongly: a grouped one is said to take the channels of one group, so that a valid
# graph is refused; and a kernel that is not square is said to give the height of its width.
# Exits 1 if that has changed. Needs Python 3.11 or later (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check nir==1.0.8 numpy==2.5.5
cat > run.py <<'PYTHON_CODE'
import sys

import nir
import numpy as np


def convolution(kernel, padding, groups):
    weight = np.ones((4, 4 // groups, *kernel), np.float32)
    return nir.Conv2d((8, 8), weight, stride=1, padding=padding, dilation=1, groups=groups, bias=np.zeros(4, np.float32))


grouped = convolution((3, 3), (1, 1), groups=4)
nodes = {
    'input': nir.Input({'input': np.array([4, 8, 8])}),
    'conv': grouped,
    'output': nir.Output({'output': np.array([4, 8, 8])}),
}
try:
    nir.NIRGraph(nodes=nodes, edges=[('input', 'conv'), ('conv', 'output')])
    refusal = ''
except ValueError as error:
    refusal = str(error)
print('depthwise convolution of 4 channels:', refusal or 'accepted')

wide = convolution((1, 3), (0, 1), groups=1).output_type['output'].tolist()
print('1 x 3 kernel, padding 0 and 1, on 8 x 8: output', wide, 'where [4, 8, 8] is right')
sys.exit(not ('type mismatch' in refusal and wide == [4, 8, 10]))
PYTHON_CODE
env/bin/python run.py
