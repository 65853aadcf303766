#!/usr/bin/env bash
# mmengine 0.10.12 (onedl-mmengine) writes a date of a config as a subtraction: the file it dumps holds `2024 - 11 - 12`, which reads
# back as 2001, and a day or month below 10 (`2024 - 01 - 02`) makes a file that Python does not read. The copy of the config in a
# work folder and the one inside a checkpoint are written in this way.
# Exits 1 if that has changed. Needs Python 3.11 or later (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check onedl-mmengine==0.10.12 yapf==0.43.0
cat > run.py <<'PYTHON_CODE'
import datetime
import sys

from mmengine.config import Config


def dump_and_read(date):
    Config(dict(metainfo=dict(recorded=date))).dump('dumped.py')
    print('written:', repr(date), '->', open('dumped.py').read().strip())
    try:
        read = Config.fromfile('dumped.py').metainfo.recorded
    except SyntaxError as error:
        read = f'SyntaxError: {error.msg}'
    print('read:   ', repr(read))
    return read


late, early = dump_and_read(datetime.date(2024, 11, 12)), dump_and_read(datetime.date(2024, 1, 2))
sys.exit(not (late == 2024 - 11 - 12 and 'leading zeros' in str(early)))
PYTHON_CODE
env/bin/python run.py
