#!/usr/bin/env bash
# tonic 1.7.0 with polarities of type bool, which its data sets DVSGesture and DSEC give: ToVoxelGrid counts OFF events as ON, and the noise of
# UniformNoise is ON (nearly) throughout. With the same polarities as int64 both are right.
# Exits 1 if that has changed. Needs Python 3.11 or later (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check --no-deps tonic==1.7.0 numpy==2.4.6 scipy==1.17.1 tqdm==4.70.1 h5py==3.16.0 importRosbag==1.0.4 \
    requests==2.34.2 urllib3==2.8.0 idna==3.20 certifi==2026.10.19.post1 charset-normalizer==3.5.3 typing-extensions==4.16.0
cat > run.py <<'PYTHON_CODE'
import sys

import numpy as np
from tonic.datasets import DSEC, DVSGesture
from tonic.transforms import ToVoxelGrid, UniformNoise

print('polarity of DVSGesture and DSEC:', DVSGesture.dtype['p'], DSEC.dtype['p'])
np.random.seed(0)
grids, noise = {}, {}
for kind in ('int64', 'bool'):
    events = np.zeros(5, [('x', '<i8'), ('y', '<i8'), ('t', '<i8'), ('p', kind)])
    events['t'], events['p'] = [0, 10, 20, 30, 40], [0, 1, 0, 0, 0]
    grids[kind] = ToVoxelGrid((1, 1, 2), n_time_bins=2)(events).ravel().tolist()
    noise[kind] = UniformNoise((1, 1, 2), 1000)(events)['p'].sum() - 1
    print(f'{kind}: of one ON and four OFF events the grid {grids[kind]}, [-0.5, -1] is right; {noise[kind]} of 1000 noise events ON')
right = DVSGesture.dtype['p'] == DSEC.dtype['p'] == bool and grids['int64'] == [-0.5, -1.0] and 400 < noise['int64'] < 600
sys.exit(not (right and grids['bool'] == [1.5, 2.0] and noise['bool'] == 1000))
PYTHON_CODE
env/bin/python run.py
