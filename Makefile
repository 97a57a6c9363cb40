# Everything happens in .venv, made on the first call with nothing but Python on the machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-long lint clean

demo: .venv/installed
	OMP_WAIT_POLICY=passive $(BIN)/bm3 train demo

test: .venv/ready
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m "not long"

test-long: .venv/ready
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m long

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --constraint constraints.txt
	touch $@

.venv/ready: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" --constraint constraints.txt
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
