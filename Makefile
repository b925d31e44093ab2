# Every target sets up .venv first, so each works as the first command ever typed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow matrix lint bench

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the pinned versions, the project and AllenNLP

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "This project needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	       "Name another one, such as: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps allennlp==2.10.1
	@touch $@

demo: $(READY) ## train a head on the embedded model, beside an untrained one and an Embedding
	$(BIN)/python scripts/train_head.py

test: $(READY) ## run the tests, but for the slow ones
	$(BIN)/python -m pytest

slow: $(READY) ## run the tests that take seconds each
	$(BIN)/python -m pytest -m slow

matrix: ## run the tests on every Python from 3.11 to 3.13 that the machine has
	$(PYTHON) scripts/matrix.py

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) ## measure speed against AllenNLP
	$(BIN)/python scripts/benchmark.py --precision float32 bfloat16 --batch-size 32 1 --turns 3 --warm-up 250
