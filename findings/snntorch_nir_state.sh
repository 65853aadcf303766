#!/usr/bin/env bash
# snntorch 1.0.0: a network that import_from_nir made keeps the membranes of the sample before, although it takes and gives its state as an
# argument: the same input, without a state, gives other spikes in every call.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12), a package index, and 6 GB for torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --no-compile --disable-pip-version-check snntorch==1.0.0 nirtorch==2.6 nir==1.0.8 torch==2.14.1 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import sys

import nir
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

values = dict(tau=4e-4, r=1, v_leak=0, v_threshold=0.5, v_reset=0)
lif = nir.LIF(**{name: np.full(1, value, np.float32) for name, value in values.items()})
nodes = dict(input=nir.Input(np.array([1])), lif=lif, output=nir.Output(np.array([1])))
network = import_from_nir(nir.NIRGraph(nodes=nodes, edges=[('input', 'lif'), ('lif', 'output')]))


def sample():
    state, out = None, []
    for _ in range(3):
        spikes, state = network(torch.full((1, 1), 0.8), state)
        out.append(int(spikes))
    return out


samples = [sample() for _ in range(3)]
print('three times the same sample of three steps, each begun without a state:', samples)
sys.exit(samples != [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
PYTHON_CODE
env/bin/python run.py
