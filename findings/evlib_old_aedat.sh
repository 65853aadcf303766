#!/usr/bin/env bash
# evlib 0.13.2, which lists AEDAT among its formats, reads intact files of AEDAT 2.0 (DVS128) and of AEDAT 3.1 as recordings without any event,
# and raises no error.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check evlib==0.13.2 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import struct
import sys

import evlib  # prints that PyTorch is missing, which this does not need

events = [(10 * i, i, 2 * i, i % 2) for i in range(1, 101)]  # t in us, x, y, p
with open('two.aedat', 'wb') as file:  # big-endian address and time; address: 7 bits of y, 7 bits of x, polarity
    file.write(b'#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n')
    for t, x, y, p in events:
        file.write(struct.pack('>II', (y % 128) << 8 | x << 1 | p, t))
with open('three.aedat', 'wb') as file:  # a packet of polarity events: header of 28 bytes, then data and time, little-endian
    file.write(b'#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2020-01-01 00:00:00 (TZ+0000)\r\n#!END-HEADER\r\n')
    file.write(struct.pack('<HHIIIIII', 1, 1, 8, 4, 0, len(events), len(events), len(events)))
    for t, x, y, p in events:
        file.write(struct.pack('<II', x << 17 | (y % 128) << 2 | p << 1 | 1, t))

counts = [len(evlib.load_events(name).collect()) for name in ('two.aedat', 'three.aedat')]
print(f'AEDAT 2.0: {counts[0]} of {len(events)} events; AEDAT 3.1: {counts[1]} of {len(events)} events')
sys.exit(counts != [0, 0])
PYTHON_CODE
env/bin/python run.py
