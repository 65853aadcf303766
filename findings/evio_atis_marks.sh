#!/usr/bin/env bash
# evio 0.1.0 takes the marks in .bin files of N-MNIST and N-Caltech101 for events: an event in row 240 is no pixel but says that the camera's
# counter began anew, and 2^13 us are to be added from there (read_dataset of the Event-Python toolbox, and tonic). Later times fall back.
# Exits 1 if that has changed. Needs Python 3.11 or later (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check evio==0.1.0 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import sys

import evio

# column, row, polarity, what the counter says
words = [(3, 4, 1, 100), (5, 6, 0, 8000), (0, 240, 0, 8191), (7, 8, 1, 50), (9, 10, 0, 4000)]
with open('recording.bin', 'wb') as file:
    for x, y, p, t in words:
        file.write(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]))

meant = [(x, y, p, t + 8192 * (i > 2)) for i, (x, y, p, t) in enumerate(words) if y != 240]
events = evio.read('recording.bin')
read = [tuple(int(event[name]) for name in ('x', 'y', 'p', 't')) for event in events]
print('meant (x, y, p, t):', meant)
print('read:              ', read)
sys.exit(read != words)
PYTHON_CODE
env/bin/python run.py
