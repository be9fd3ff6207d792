# Each target makes or reuses .venv and installs what it needs. `make help` lists the targets.
PYTHON ?= python3
EXTRAS ?= train,s3,curate,search,web,eval,judge,wandb,mlflow,dev
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A vLLM for the CPU with a small judge. To use another environment: make test-vllm JUDGE=...
JUDGE := .venv-vllm
# The newest torch and transformers, which Composer and streaming do not name as allowed.
NEWEST := .venv-newest
# Without extras, as a curator installs it.
LIGHT := .venv-light
SECONDS ?= 60
BASE ?= HEAD

.PHONY: help demo proof proof-anneal proof-spans proof-text test coverage test-browser test-light test-llama test-newest test-vllm check same-losses
.PHONY: chaos chaos-s3 chaos-gs faults gpu-check format docs schemas site release install clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## ?(.*)/\1\t\2/' | \
	awk -F '\t' '{printf "%-14s %s\n", $$1, $$2}'

install: $(STAMP) ## create .venv with the tested versions

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python tools/dev/install.py $(EXTRAS)
	touch $@

demo: $(STAMP) ## run the end-to-end pipeline; then open demo/report.html
	$(BIN)/ixt demo

# Finished runs in ixt-proof/ are not repeated. PROOF=--quick trains a few steps per arm.
proof: $(STAMP) ## measure the claim on the arithmetic corpus
	$(BIN)/python tools/experiments proof $(PROOF)

proof-spans: $(STAMP) ## measure span critiques
	$(BIN)/python tools/experiments spans $(PROOF)

proof-anneal: $(STAMP) ## measure against training that ends on the good documents
	$(BIN)/python tools/experiments anneal $(PROOF)

proof-text: $(STAMP) ## measure on real text
	$(BIN)/python tools/experiments text $(PROOF)

test: $(STAMP) ## run the tests, on all cores
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST)

faults: $(STAMP) ## let every call of a storage fail once, in every way
	$(BIN)/python -m pytest -n auto -m faults tests/ixt_data $(PYTEST)

coverage: $(STAMP) ## run the fast tests and show coverage; fails below the floor in pyproject.toml
	$(BIN)/python -m pytest -m "not slow and not e2e and not vllm and not browser and not faults and not light" --cov \
	--cov-report=term:skip-covered $(PYTEST)

test-vllm: $(STAMP) $(JUDGE)/.installed ## run the tests with a real vLLM on the CPU
	IXT_VLLM_HOME=$(abspath $(JUDGE)) $(BIN)/python -m pytest -m vllm

$(JUDGE)/.installed: tests/real_vllm/setup.sh tests/real_vllm/tiny_judge.py
	PYTHON=$(PYTHON) tests/real_vllm/setup.sh $(JUDGE)
	touch $@

test-light: $(STAMP) $(LIGHT)/.installed ## run a curator's work in an installation without torch
	IXT_LIGHT_HOME=$(abspath $(LIGHT)) $(BIN)/python -m pytest -m light tests/light_install $(PYTEST)

$(LIGHT)/.installed: pyproject.toml constraints.txt
	test -x $(LIGHT)/bin/python || $(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python tools/dev/install.py ""
	touch $@

test-llama: $(STAMP) ## run the tests with a real llama.cpp and a small model
	$(BIN)/python -m pytest -m llama tests/real_llama $(PYTEST)

test-newest: $(NEWEST)/.installed ## run the trainer's tests with the newest torch, transformers, NumPy
	$(NEWEST)/bin/python -m pytest -n auto --dist loadfile -m "not slow" tests/ixt_train tests/ixt_data/mix $(PYTEST)

$(NEWEST)/.installed: pyproject.toml constraints-newest.txt
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python tools/dev/install.py train,s3,dev,mlflow,wandb,eval --newest
	touch $@

test-browser: $(STAMP) ## run the tests of the inspector in a real Chromium
	IXT_CHROMIUM="$$($(BIN)/python tests/support/chromium.py)" && export IXT_CHROMIUM && \
	$(BIN)/python -m pytest -m browser tests/browser

gpu-check: $(STAMP) ## check and time the trainer on a GPU; without one, small on the CPU
	$(BIN)/python tools/benchmarks/gpu.py $(GPU)

check: $(STAMP) ## ruff, mypy, layers, words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/dev/layers.py
	$(BIN)/python tools/dev/words.py

same-losses: $(STAMP) ## compare a fixed seed's losses with those of BASE, digit by digit
	$(BIN)/python tools/dev/same_losses.py --base $(BASE)

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs schemas: $(STAMP) ## regenerate schemas/ and the references in docs/
	$(BIN)/python tools/dev/generate_schemas.py
	$(BIN)/python tools/dev/cli_reference.py
	$(BIN)/python tools/dev/config_reference.py

site: $(STAMP) ## build docs/ as a site in site/
	$(BIN)/mkdocs build --strict --quiet

chaos: $(STAMP) ## kill writers, compactor and collector of a local store for SECONDS
	$(BIN)/python tests/chaos/night.py --seconds $(SECONDS)

chaos-s3: SECONDS = 20
chaos-s3: $(STAMP) ## the same on a real S3 server
	$(BIN)/python tests/chaos/night.py --on s3 --seconds $(SECONDS)

chaos-gs: SECONDS = 20
chaos-gs: $(STAMP) ## the same on Google Cloud Storage, played over the S3 server
	$(BIN)/python tests/chaos/night.py --on gs --seconds $(SECONDS)

release: $(STAMP) ## VERSION=x.y.z: set version and changelog, tag, build and check the packages
	$(BIN)/python tools/dev/release.py $(VERSION)

clean: ## delete everything that make creates
	rm -rf $(VENV) $(JUDGE) $(NEWEST) $(LIGHT) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
