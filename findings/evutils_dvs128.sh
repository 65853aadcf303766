#!/usr/bin/env bash
# evutils 0.3.18 reads AEDAT 2.0 of a DVS128 with the addresses of a DAVIS, though the header names the chip: half of the events are left
# out, and the others stand in a corner, with other polarities.
# Exits 1 if that has changed. Needs Python 3.11 or later (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check evutils==0.3.18 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import struct
import sys

from evutils.io import EventReader

events = [(10 * i, i, 2 * i, i % 2) for i in range(1, 9)]  # t in us, x, y, p
with open('recording.aedat', 'wb') as file:  # big-endian address and time; address: 7 bits of y, 7 bits of x, polarity
    file.write(b'#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n')
    for t, x, y, p in events:
        file.write(struct.pack('>II', y << 8 | x << 1 | p, t))

with EventReader('recording.aedat') as reader:
    read = [tuple(int(event[name]) for name in ('t', 'x', 'y', 'p')) for event in reader.read_all()]
print('written (t, x, y, p):', events)
print('read:                ', read)
sys.exit(read != [(10, 0, 0, 0), (40, 0, 0, 1), (50, 0, 0, 1), (80, 1, 0, 0)])
PYTHON_CODE
env/bin/python run.py
