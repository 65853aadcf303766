#!/usr/bin/env bash
# tonic 1.7.0's EventDrop (arXiv 2106.05836): DropEventByTime draws its while between 0 and the last time, not within the recording, so that
# it drops nothing of most windows that begin later. DropEventByArea draws from a range (a, b) a side between b and 1 instead of a and b.
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
from tonic.transforms import DropEventByArea, DropEventByTime


def recording(times, x=0, y=0):
    events = np.zeros(len(times), [('x', '<i8'), ('y', '<i8'), ('t', '<i8'), ('p', '<i8')])
    events['t'], events['x'], events['y'] = times, x, y
    return events


np.random.seed(0)
dropped = {}
for start in (0, 1_000_000, 10_000_000):
    events = recording(np.arange(start, start + 100_000, 100))
    dropped[start] = [len(events) - len(DropEventByTime(0.2)(events)) for _ in range(200)]
    share = np.mean(np.equal(dropped[start], 0))
    print(f'DropEventByTime(0.2), 1000 events in 100 ms from {start} us: {share:.0%} of 200 draws drop no event, 200 are right')

events = recording(np.arange(10_000), *np.divmod(np.arange(10_000), 100))  # one in every pixel
areas = [len(events) - len(DropEventByArea((100, 100, 2), (0.1, 0.2))(events)) for _ in range(200)]
print(f'DropEventByArea of sides 0.1 to 0.2, a pixel an event: drops {min(areas)} to {max(areas)} of 10000, 100 to 400 are right')
none = [np.mean(np.equal(n, 0)) for n in dropped.values()]
sys.exit(not (none[0] == 0 and none[1] > 0.8 and none[2] > 0.9 and min(areas) >= 400 and max(areas) > 9000))
PYTHON_CODE
env/bin/python run.py
