# Everything happens in .venv, made on the first call with nothing but Python on the machine.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: demo test test-long fuzz test-python test-lowest lint clean

demo: $(VENV)/installed
	OMP_WAIT_POLICY=passive $(BIN)/bm3 train demo

# In two processes; one shows a test's output as it comes: make test WORKERS=0
WORKERS ?= 2
test: $(VENV)/ready
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long"

test-long: $(VENV)/ready
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m long
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest tests/properties --hypothesis-profile=long

# Files damaged at random, for so many seconds, in so many ways at most: make fuzz SECONDS=3600 SEED=1 CASES=1000000
SECONDS ?= 120
SEED ?= 0
CASES ?= 1000000
fuzz: $(VENV)/ready
	OMP_WAIT_POLICY=passive $(BIN)/python -m tests.contracts.fuzz --seconds $(SECONDS) --seed $(SEED) --cases $(CASES)

# The tests under another Python, in an environment of its own: make test-python PYTHON=python3.12
test-python: OWN = .venv-$(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")
test-python:
	$(MAKE) test VENV=$(OWN)

# The tests with the lowest versions that setup.cfg allows: make test-lowest PYTHON=python3.10
test-lowest:
	mkdir -p .venv-lowest
	sed -n 's/^ *\([A-Za-z0-9_-]*\)>=\([0-9.]*\)$$/\1==\2/p' setup.cfg > .venv-lowest/constraints.txt
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=.venv-lowest/constraints.txt

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable .
	touch $@

$(VENV)/ready: $(VENV)/installed
	$(INSTALL) --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
