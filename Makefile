# The two commands that matter: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test setup fmt lint type check bench clean help

help:
	@echo "make demo    a broker, a shop server and three players: callbacks both ways"
	@echo "make test    all checks: lint, types, tests"
	@echo "make bench   calls a second, latency and CPU a call, beside hand-written pyzmq loops"
	@echo "make fmt     format the code"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(READY)

demo: setup
	$(BIN)/python examples/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup
	$(BIN)/mypy

test: lint type
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage report --include='*/ringback/protocol/*,*/ringback/errors.py,*/ringback_broker/switchboard.py' --fail-under=100 --show-missing --skip-covered

check: test

bench: setup
	$(BIN)/python bench/run.py

fmt: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
