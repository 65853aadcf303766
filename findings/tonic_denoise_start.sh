#!/usr/bin/env bash
# tonic 1.7.0: Denoise keeps every event of the first filter_time, however alone it is: a pixel without any event counts as one that had an
# event at time 0. Windows whose times begin at 0, as slicers and data sets make them, keep their noise there; the same events 10 s later lose it.
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
from tonic.transforms import Denoise

# noise: an event every ms, for 30 ms, no two of them within 3 pixels; then a pair of neighbours, which is to stay
events = np.zeros(32, [('x', '<i8'), ('y', '<i8'), ('t', '<i8'), ('p', '<i8')])
events['x'][:30], events['y'][:30], events['t'][:30] = np.arange(30) % 6 * 4, np.arange(30) // 6 * 4, np.arange(30) * 1000
events['x'][30:], events['t'][30:] = [26, 27], [30000, 30100]

kept = {}
for start in (0, 10_000_000):
    moved = events.copy()
    moved['t'] += start
    kept[start] = [int(t) - start for t in Denoise(filter_time=10000)(moved)['t']]
    noise = [t for t in kept[start] if t < 30000]
    print(f'from {start} us on: {len(noise)} of 30 isolated events stay, at {noise} us; of the two neighbours {len(kept[start]) - len(noise)}')
sys.exit(kept != {0: [*range(0, 10000, 1000), 30100], 10_000_000: [30100]})
PYTHON_CODE
env/bin/python run.py
