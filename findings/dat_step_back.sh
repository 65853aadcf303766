#!/usr/bin/env bash
# evutils 0.3.18 reads a Prophesee .dat file in which one event is 20 us late: every later event moves by 2^32 us (71 minutes).
# Exits 1 if that has changed. Needs Python 3.11 or later (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check evutils==0.3.18 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import sys

import numpy as np
from evutils.io import EventReader

times = [10, 20, 50, 30, 60, 70]  # us; the fourth event is 20 us late, as events of a busy sensor may be
events = np.zeros(len(times), dtype=[('t', '<u4'), ('word', '<u4')])
events['t'] = times
events['word'] = [x | (x + 1) << 14 | (x % 2) << 28 for x in range(len(times))]
with open('drive_td.dat', 'wb') as file:
    file.write(b'% Data file containing CD events.\n% Version 2\n% Height 240\n% Width 304\n')
    file.write(bytes([12, 8]) + events.tobytes())  # type of event, bytes an event

with EventReader('drive_td.dat') as reader:
    read = reader.read_all()['t'].tolist()
print('written:', times)
print('read:   ', read)
sys.exit(read != [*times[:3], *(t + 2**32 for t in times[3:])])
PYTHON_CODE
env/bin/python run.py
