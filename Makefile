# make demo   sets up .venv, trains and tests the demo network
# make test   sets up .venv, runs the whole test suite
# make lint   sets up .venv, runs ruff
# make types  sets up .venv, checks the type hints with mypy
# make docs   sets up .venv, builds the documentation as a site
# make setup  sets up .venv only (done once: a second call takes a moment)
# PYTHON=/path/to/python3.12 chooses the interpreter that .venv is made with: 3.11, 3.12 or 3.13.

# The one .venv was made with, else the newest that runs: a pyenv shim for a version that is not selected is on PATH, too, but
# fails.
PYTHON ?= $(shell for p in $$(sed -n 's/^executable = //p' .venv/pyvenv.cfg 2>/dev/null) python3.13 python3.12 python3.11 python3; \
	do $$p -c pass >/dev/null 2>&1 && echo $$p && break; done)
PY = .venv/bin/python

.PHONY: setup demo test lint types docs
.NOTPARALLEL:

# Packages are installed without bytecode. Where the environment forbids to write any, every process compiles thousands of modules.
export PYTHONDONTWRITEBYTECODE =

setup:
	@test -n "$(PYTHON)" || { echo 'No Python found. Install Python 3.11, 3.12 or 3.13, or name it: make PYTHON=/path/to/python3.13' >&2; exit 1; }
	@$(PYTHON) tools/dev/setup_env.py

# On the GPU where torch finds one; make demo CUDA_VISIBLE_DEVICES= declines it.
demo: setup
	$(PY) tools/demo.py

test: setup
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup
	$(PY) -m mypy

docs: setup
	$(PY) -m mkdocs build --strict
