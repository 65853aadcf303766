#!/usr/bin/env bash
# norse 1.1.0 and snntorch 1.0.0 read the v_reset of NIR's LIF as 0, whatever it is, without a warning: the neuron fires more or less often.
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

DT, STEPS, INPUT, THRESHOLD, TAU = 1e-4, 8, 0.8, 0.5, 2e-4


def euler(reset):
    """The equation of NIR's LIF, tau dv/dt = v_leak - v + r x, in steps of DT."""
    v, out = 0.0, []
    for _ in range(STEPS):
        v += (INPUT - v) * DT / TAU
        out.append(int(v > THRESHOLD))
        v = reset if out[-1] else v
    return out


def run(network):
    state, out = None, []
    for _ in range(STEPS):
        spikes, state = network(torch.full((1, 1), INPUT), state)
        out.append(int(spikes))
    return out


ok = []
for reset in (0.0, -0.5):
    values = dict(tau=TAU, r=1, v_leak=0, v_threshold=THRESHOLD, v_reset=reset)
    lif = nir.LIF(**{name: np.full(1, value, np.float32) for name, value in values.items()})
    nodes = dict(input=nir.Input(np.array([1])), lif=lif, output=nir.Output(np.array([1])))
    graph = nir.NIRGraph(nodes=nodes, edges=[('input', 'lif'), ('lif', 'output')])
    read = [run(norse.torch.from_nir(graph, dt=DT)), run(import_from_nir(graph))]
    print(f'v_reset {reset}: NIR {euler(reset)}, norse {read[0]}, snntorch {read[1]}')
    ok.append(read == [euler(0.0)] * 2)
sys.exit(not (all(ok) and euler(0.0) != euler(-0.5)))
PYTHON_CODE
env/bin/python run.py
