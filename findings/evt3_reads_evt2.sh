#!/usr/bin/env bash
# evt3 0.4.1 decodes a .raw file whose header says EVT 2.0 as if it were EVT3: other events at other times, and no error.
# Exits 1 if that has changed. Needs Python 3.11 or later (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check evt3==0.4.1 numpy==2.5.5
cat > run.py <<'PYTHON_CODE'
import sys

import evt3
import numpy as np

words = []
for high in (1000, 1001):  # 28 bits of time in units of 64 us, then 20 events with 6 bits each
    words.append(8 << 28 | high)
    words += [(i % 2) << 28 | i << 22 | (10 + i) << 11 | 20 + i for i in range(20)]
with open('recording.raw', 'wb') as file:
    file.write(b'% evt 2.0\n% format EVT2;height=720;width=1280\n% geometry 1280x720\n% end\n')
    file.write(np.array(words, '<u4').tobytes())

events = evt3.decode_file('recording.raw')
columns, times = np.asarray(events.x).tolist(), np.asarray(events.t).tolist()
print('written: 40 events, x from 10 to 29, t from 64000 to 64083 us')
print(f'read:    {len(columns)} events, x {columns}, t {times} us')
sys.exit(len(columns) != 10)
PYTHON_CODE
env/bin/python run.py
