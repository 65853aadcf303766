#!/usr/bin/env bash
# MNN 3.6.1: mnnconvert and mnnquant run "pip install -U aliyun-log-python-sdk", a package that the wheel does not require, in the
# version of the day, by the first pip on the PATH, which need not be that of their environment. Asking for the usage is enough.
# (Read in MNN/tools/utils/log.py, not run here: with that package they then report each conversion, with an identifier of the
# machine, to a server of MNN's makers.) Here pip is a script that writes down what it is asked for and fails.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --disable-pip-version-check MNN==3.6.1 numpy==2.5.5
mkdir watched
printf '#!/bin/sh\necho "$@" >> "%s/asked"\nexit 1\n' "$folder" > watched/pip
chmod +x watched/pip
touch asked
PATH="$folder/watched:$PATH" env/bin/mnnconvert --help > help.log 2>&1 || true
asked=$(sort -u asked)
: > asked
# what it calls
PATH="$folder/watched:$PATH" env/bin/python -c 'import sys, _tools; _tools.mnnconvert(sys.argv)' --help > direct.log 2>&1 || true
echo "required by the wheel: $(env/bin/python -c "from importlib.metadata import requires; print(*requires('MNN'), sep=', ')")"
echo "asked of pip:          $asked"
echo "by what it calls:      $(sort -u asked)"
[ "$asked" = 'install -U aliyun-log-python-sdk' ] && [ ! -s asked ]
