#!/usr/bin/env bash
# tonic 1.7.0's SliceByTime(reset_time=True) writes into the array that it is given: slicing it again gives other times. Where windows overlap,
# the times of an event in two of them are moved twice, and fall below 0.
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
from tonic.slicers import SliceByTime


def recording():
    events = np.zeros(7, [('x', '<i8'), ('y', '<i8'), ('t', '<i8'), ('p', '<i8')])
    events['t'] = [0, 50, 120, 180, 240, 299, 300]
    return events


def cut(events, **kwargs):
    return [part['t'].tolist() for part in SliceByTime(100, reset_time=True, **kwargs).slice(events, None)[0]]


events = recording()
written = events['t'].tolist()
first = cut(events)
print('written:                   ', written)
print('windows of 100 us:         ', first)
print('the array behind it:       ', events['t'].tolist())
second = cut(events)
print('the same call once more:   ', second)
overlapping = cut(recording(), overlap=50)
print('windows that overlap by 50:', overlapping)
right = first == [[0, 50], [20, 80], [40, 99]]
sys.exit(not (right and events['t'].tolist() != written and second != first and overlapping[0] == [0, -50]))
PYTHON_CODE
env/bin/python run.py
