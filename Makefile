# make demo | test | test-browser | test-vllm | check | chaos | chaos-s3: each makes or reuses .venv and installs what it needs.
PYTHON ?= python3
EXTRAS ?= train,s3,serve,curate,eval,wandb,mlflow,dev
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A vLLM for the CPU with a small judge; another one that is there already: make test-vllm JUDGE=...
JUDGE := .venv-vllm

.PHONY: demo proof proof-spans proof-text test test-browser test-vllm check chaos chaos-s3 format docs schemas site install clean
SECONDS ?= 60

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/dev/install.py $(EXTRAS)
	touch $@

demo: $(STAMP)
	$(BIN)/ixt demo

# What is finished in ixt-proof/ is not repeated; with PROOF=--quick a few steps of each arm.
proof: $(STAMP)
	$(BIN)/python tools/experiments proof $(PROOF)

proof-spans: $(STAMP)
	$(BIN)/python tools/experiments spans $(PROOF)

proof-text: $(STAMP)
	$(BIN)/python tools/experiments text $(PROOF)

test: $(STAMP)
	$(BIN)/python -m pytest

test-vllm: $(STAMP) $(JUDGE)/.installed
	IXT_VLLM_HOME=$(abspath $(JUDGE)) $(BIN)/python -m pytest -m vllm

$(JUDGE)/.installed: tests/real_vllm/setup.sh tests/real_vllm/tiny_judge.py
	PYTHON=$(PYTHON) tests/real_vllm/setup.sh $(JUDGE)
	touch $@

test-browser: $(STAMP)
	IXT_CHROMIUM="$$($(BIN)/python tests/support/chromium.py)" && export IXT_CHROMIUM && \
	$(BIN)/python -m pytest -m browser tests/browser

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs schemas: $(STAMP)
	$(BIN)/python tools/dev/generate_schemas.py
	$(BIN)/python tools/dev/cli_reference.py
	$(BIN)/python tools/dev/config_reference.py

site: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet

chaos: $(STAMP)
	$(BIN)/python tests/chaos/night.py --seconds $(SECONDS)

chaos-s3: SECONDS = 20
chaos-s3: $(STAMP)
	$(BIN)/python tests/chaos/night.py --s3 --seconds $(SECONDS)

clean:
	rm -rf $(VENV) $(JUDGE) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
