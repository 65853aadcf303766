# make demo   sets up .venv, trains and tests the demo network
# make test   sets up .venv, runs the whole test suite
# make lint   sets up .venv, runs ruff
# make types  sets up .venv, checks the type hints with mypy
# make docs   sets up .venv, builds the documentation as a site
# make setup  sets up .venv only (done once: a second call takes a moment)
# PYTHON=/path/to/python3.11 chooses the interpreter that .venv is made with.

# The first one that runs: a pyenv shim for a version that is not selected is on PATH, too, but fails.
PYTHON ?= $(shell for p in python3.11 python3; do $$p -c pass >/dev/null 2>&1 && echo $$p && break; done)
PY = .venv/bin/python

.PHONY: setup demo test lint types docs
.NOTPARALLEL:

setup:
	@test -n "$(PYTHON)" || { echo 'No Python found. Install Python 3.11, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) tools/dev/setup_env.py

# The operators of mmcv in .venv are for the CPU only: no GPU is shown to the demo.
demo: setup
	CUDA_VISIBLE_DEVICES= $(PY) tools/demo.py

test: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup
	$(PY) -m mypy

docs: setup
	$(PY) -m mkdocs build --strict
