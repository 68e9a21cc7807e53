# Everything that a person does with a clone. PYTHON chooses the interpreter, VENV where the environment stands.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-out
DATA ?= demo-data

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test lint bench clean

help: ## Show this help
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s%s\n", $$1, $$2}'

demo: $(STAMP) ## Make a small synthetic region and build a dataset from it
	@test -d $(DATA) || $(BIN)/reben demo $(DATA)
	$(BIN)/reben run --s2 $(DATA)/sentinel2 --landcover $(DATA)/landcover.gpkg \
		--countries $(DATA)/countries.gpkg --out $(OUT) --overwrite

test: $(STAMP) ## Run all tests
	$(BIN)/python -m pytest

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## Measure stages against a baseline, side by side
	$(BIN)/python tests/bench/bench_stages.py

clean: ## Remove the environment and the demo
	rm -rf $(VENV) $(DATA) $(OUT)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; choose another: make PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
