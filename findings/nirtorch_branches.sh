#!/usr/bin/env bash
# norse 1.1.0 runs a NIR graph by nirtorch 2.6 depth first, along the edges in their order, reads of a node's sources those that have run
# already, and gives the output of the node that ran last: where two branches with layers join, as at a shortcut with a convolution, that is one
# of the branches, and there is no error. NIR (arXiv 2311.14711) adds them up.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12), a package index, and 6 GB for torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --no-compile --disable-pip-version-check norse==1.1.0 nirtorch==2.6 nir==1.0.8 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import sys

import nir
import norse.torch
import numpy as np
import torch


def out(*edges):
    """What norse gives for 1, where a layer's name says what it multiplies by."""
    names = sorted({name for edge in edges for name in edge} - {'input', 'output'})
    nodes = {name: nir.Linear(np.array([[float(name[1:])]], np.float32)) for name in names}
    nodes |= {'input': nir.Input({'input': np.array([1])}), 'output': nir.Output({'output': np.array([1])})}
    return float(norse.torch.from_nir(nir.NIRGraph(nodes=nodes, edges=list(edges)), dt=1e-4)(torch.ones(1, 1))[0].detach())


ends = ('input', 'x1'), ('y3', 'output')
layers = [out(ends[0], *(('x1', a), ('x1', b)), (a, 'y3'), (b, 'y3'), ends[1]) for a, b in (('a5', 'b10'), ('b10', 'a5'))]
print('3 (5 x + 10 x) of x = 1, two orders of the edges:', layers, 'where 45 is right')
identity = [out(ends[0], *edges, ('a10', 'y3'), ends[1]) for edges in ([('x1', 'a10'), ('x1', 'y3')], [('x1', 'y3'), ('x1', 'a10')])]
print('3 (x + 10 x) of x = 1, two orders of the edges:  ', identity, 'where 33 is right')
sys.exit(not (layers == [10.0, 5.0] and identity == [33.0, 10.0]))
PYTHON_CODE
env/bin/python run.py
