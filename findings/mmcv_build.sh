#!/usr/bin/env bash
# onedl-mmcv 2.3.6 compiles its operators whenever torch can be imported while it is built, and does not read MMCV_WITH_OPS, by
# which mmcv's documentation chooses. An ordinary `pip install` builds in isolation, sees no torch and installs no operators, and
# `import mmcv.ops` fails then. Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12) and a package index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary onedl-mmcv onedl-mmcv==2.3.6
tar -xzf onedl_mmcv-2.3.6.tar.gz
reads=$(grep -c MMCV_WITH_OPS onedl_mmcv-2.3.6/setup.py || true)
MMCV_WITH_OPS=1 env/bin/pip wheel --quiet --disable-pip-version-check --no-deps --no-cache-dir onedl-mmcv==2.3.6 -w wheels
compiled=$(env/bin/python -m zipfile -l wheels/*.whl | grep -c '_ext\.' || true)
echo "lines of setup.py that name MMCV_WITH_OPS: $reads"
echo "compiled operators in the wheel of an isolated build with MMCV_WITH_OPS=1: $compiled ($(ls wheels))"
[ "$reads" = 0 ] && [ "$compiled" = 0 ]
