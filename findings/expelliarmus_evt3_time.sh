#!/usr/bin/env bash
# expelliarmus 1.1.12, the reader that tonic requires, adds 4096 us to all later times at every step of the upper half of EVT3's time, which
# that half says already: the clock of a recording runs twice as fast. Its read_time_window gives windows of another length, too.
# Exits 1 if that has changed. Needs Python 3.11 (PYTHON=python3.11), or a C compiler with a later one, and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check expelliarmus==1.1.12 evt3==0.4.1 numpy==2.4.6
cat > run.py <<'PYTHON_CODE'
import sys

import evt3
import numpy as np
from expelliarmus import Wizard

times = list(range(1000, 41_000, 2000))  # us, in order; the time has 12 upper and 12 lower bits
words, last = [], None
for t in times:
    if t >> 12 != last:
        last = t >> 12
        words.append(8 << 12 | last)  # EVT_TIME_HIGH
    words += [6 << 12 | (t & 4095), 0 << 12 | 5, 2 << 12 | 7]  # EVT_TIME_LOW, row 5, column 7
with open('recording.raw', 'wb') as file:
    file.write(b'% evt 3.0\n% format EVT3;height=720;width=1280\n% geometry 1280x720\n% end\n')
    file.write(np.array(words, '<u2').tobytes())

read = Wizard(encoding='evt3').read('recording.raw')['t'].tolist()
print('written:     ', times)
print('evt3:        ', np.asarray(evt3.decode_file('recording.raw').t).tolist())
print('expelliarmus:', read)
sys.exit(read != [t + 4096 * (t >> 12) for t in times])
PYTHON_CODE
env/bin/python run.py
