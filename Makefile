# make demo | test | check | chaos: each makes or reuses .venv and installs what it needs.
PYTHON ?= python3
EXTRAS ?= train,s3,serve,dev
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check chaos format docs schemas install clean
SECONDS ?= 60

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/install.py $(EXTRAS)
	touch $@

demo: $(STAMP)
	$(BIN)/ixt demo

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs schemas: $(STAMP)
	$(BIN)/python -m ixt_tools.schemas
	$(BIN)/python -m ixt_tools.cli_reference

chaos: $(STAMP)
	$(BIN)/python tests/chaos/night.py --seconds $(SECONDS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
