#!/usr/bin/env bash
# NIR's shapes are those of one sample, but norse 1.1.0 and snntorch 1.0.0 flatten the dimensions of a batch with the numbers of a Flatten node:
# two samples of [2, 2, 3] with start_dim 1 and end_dim 2 become [2, 4, 3], not [2, 2, 6], and with 0 and 2 they become [8, 3], not [2, 12].
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12), a package index, and 6 GB for torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --no-compile --disable-pip-version-check norse==1.1.0 snntorch==1.0.0 nirtorch==2.6 nir==1.0.8 torch==2.14.1 \
    torchvision==0.29.1 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import sys

import nir
import norse.torch
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

READERS = dict(norse=norse.torch.from_nir, snntorch=import_from_nir)
seen = []
for start, end, right in ((1, 2, (2, 6)), (0, 2, (12,))):
    flatten = nir.Flatten({'input': np.array([2, 2, 3])}, start, end)
    nodes = dict(input=nir.Input(np.array([2, 2, 3])), flatten=flatten, output=nir.Output(np.array(right)))
    graph = nir.NIRGraph(nodes=nodes, edges=[('input', 'flatten'), ('flatten', 'output')])
    assert tuple(flatten.output_type['output']) == right  # NIR's own check says so
    for name, read in READERS.items():
        shape = tuple(read(graph)(torch.ones(2, 2, 2, 3))[0].shape)
        print(f'{name}: Flatten({start}, {end}) of a batch of two samples [2, 2, 3]: {list(shape)}, {[2, *right]} is right')
        seen.append(shape)
sys.exit(seen != [(2, 4, 3), (2, 4, 3), (8, 3), (8, 3)])
PYTHON_CODE
env/bin/python run.py
