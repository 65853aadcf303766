#!/usr/bin/env bash
# tonic 1.7.0 cuts a recording into bins that overlap (ToFrame with n_time_bins or n_event_bins): it makes each bin longer, but sets them closer
# together than a bin of the recording, and the end is in no bin: with overlap=0.5 a sixth of the events is in no frame.
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
from tonic.slicers import SliceByEventBins, SliceByTimeBins

events = np.zeros(1001, [('x', '<i8'), ('y', '<i8'), ('t', '<i8'), ('p', '<i8')])
events['t'] = np.arange(1001)  # an event a us
last = {}
for slicer in (SliceByTimeBins, SliceByEventBins):
    for overlap in (0.0, 0.5):
        bins = slicer(10, overlap).slice(events, None)[0]
        spans = [(int(part['t'][0]), int(part['t'][-1])) for part in bins]
        last[slicer.__name__, overlap] = spans[-1][1]
        print(f'{slicer.__name__}(10, overlap={overlap}) of 0 to 1000 us: {spans}')
sys.exit(set(last.values()) != {999, 824} or last['SliceByTimeBins', 0.5] != 824)
PYTHON_CODE
env/bin/python run.py
