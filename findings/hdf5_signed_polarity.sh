#!/usr/bin/env bash
# evlib 0.13.2 and evutils 0.3.18 read an HDF5 recording whose polarity is stored as -1 and +1 (int8): evlib calls every event ON,
# evutils hands out 255 and 1, so that both tests in use, p > 0 and p.astype(bool), call every event ON.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check evlib==0.13.2 evutils==0.3.18 h5py==3.16.0 hdf5plugin==7.1.0 numpy==2.5.5
cat > run.py <<'PYTHON_CODE'
import sys

import evlib
import h5py
import numpy as np
from evutils.io import EventReader

with h5py.File('events.h5', 'w') as file:
    group = file.create_group('events')
    group['x'] = np.array([3, 5, 7, 9], np.uint16)
    group['y'] = np.array([2, 4, 6, 8], np.uint16)
    group['t'] = np.array([10, 20, 30, 40], np.int64)
    group['p'] = np.array([-1, 1, -1, 1], np.int8)
    group['height'], group['width'] = 240, 304

by_evlib = evlib.load_events('events.h5').collect()['polarity'].to_list()
with EventReader('events.h5') as reader:
    by_evutils = reader.read_all()['p'].tolist()
print('written:', [-1, 1, -1, 1])
print('evlib:  ', by_evlib)
print('evutils:', by_evutils)
sys.exit(not (by_evlib == [1, 1, 1, 1] and by_evutils == [255, 1, 255, 1]))
PYTHON_CODE
env/bin/python run.py
