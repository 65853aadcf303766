#!/usr/bin/env bash
# snntorch 1.0.0 reads a NIR layer of LIF neurons whose time constants differ with the threshold that belongs to the longest of them for all:
# the others fire never or too rarely, and there is no error.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12), a package index, and 6 GB for torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --no-compile --disable-pip-version-check snntorch==1.0.0 nirtorch==2.6 nir==1.0.8 torch==2.14.1 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import contextlib
import io
import sys

import nir
import numpy as np
import torch
from snntorch.import_nir import import_from_nir

DT, STEPS, INPUT, THRESHOLD = 1e-4, 8, 0.8, 0.5  # 1e-4 s is snntorch's step


def read(tau):
    """Spikes of neurons with these time constants, [neuron][step]."""
    n = len(tau)
    full = {name: np.full(n, v, np.float32) for name, v in dict(r=1, v_leak=0, v_threshold=THRESHOLD, v_reset=0).items()}
    nodes = dict(input=nir.Input(np.array([n])), lif=nir.LIF(tau=np.float32(tau), **full), output=nir.Output(np.array([n])))
    graph = nir.NIRGraph(nodes=nodes, edges=[('input', 'lif'), ('lif', 'output')])
    with contextlib.redirect_stdout(io.StringIO()):
        network = import_from_nir(graph)
    state, out = None, []
    for _ in range(STEPS):
        spikes, state = network(torch.full((1, n), INPUT), state)
        out.append(spikes[0].int().tolist())
    return np.array(out).T.tolist()


def euler(tau):
    """The equation of NIR's LIF, tau dv/dt = v_leak - v + r x, in steps of DT."""
    v, out = 0.0, []
    for _ in range(STEPS):
        v += (INPUT - v) * DT / tau
        out.append(int(v > THRESHOLD))
        v = 0.0 if out[-1] else v
    return out


taus = [1e-4, 2e-4, 4e-4]
right = [euler(tau) for tau in taus]
alone = [read([tau])[0] for tau in taus]
together = read(taus)
for name, spikes in (('NIR', right), ('a layer each', alone), ('one layer', together)):
    print(f'tau {taus}, {name}: {spikes}')
sys.exit(not (alone == right and together[2] == right[2] and not np.any(together[:2])))
PYTHON_CODE
env/bin/python run.py
