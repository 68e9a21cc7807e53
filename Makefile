# Everything that a person does with a clone. PYTHON chooses the interpreter, VENV where the environment stands.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-out
DATA ?= demo-data
BENCH_DATA ?= bench-data

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tests start hundreds of processes: the first of them compiles the package for all.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test fuzz lint docs bench bench-scale bench-codecs bench-split clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s%s\n", $$1, $$2}'

demo: $(STAMP) ## Make a small synthetic region and build a dataset from it
	@test -d $(DATA) || $(BIN)/reben demo $(DATA)
	$(BIN)/reben run --s2 $(DATA)/sentinel2 --landcover $(DATA)/landcover.gpkg \
		--countries $(DATA)/countries.gpkg --out $(OUT) --overwrite

test: $(STAMP) ## Run all tests, side by side on up to four cores
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

fuzz: $(STAMP) ## Give every reader a million damaged files, others each time (hours)
	REBEN_FUZZ_TIMES=70 REBEN_FUZZ_SEED=$$(date +%s) $(BIN)/python -m pytest -rP tests/fuzz

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP) ## Build the reference of all functions in docs/api
	$(BIN)/python -W ignore::UserWarning -m pdoc --docformat numpy --output-directory docs/api reben_dask

bench: $(STAMP) ## Measure a full-size tile and a conversion beside the naive way (half an hour, 10 GB)
	$(BIN)/python tests/bench/bench_tile.py --region $(BENCH_DATA)
	$(BIN)/python tests/bench/bench_convert.py

bench-scale: $(STAMP) ## Measure planning and scheduling of 125, 1,000 and 10,000 tiles
	$(BIN)/python tests/bench/bench_scale.py

bench-codecs: $(STAMP) ## Measure chunks, shards and compressors on a product: make bench-codecs PRODUCT=….SAFE
	$(BIN)/python tests/bench/bench_codecs.py $(PRODUCT)

bench-split: $(STAMP) ## Measure the stratified split of 500,000 locations
	$(BIN)/python tests/bench/bench_split.py

clean: ## Remove the environment, the demo and what the benchmarks made
	rm -rf $(VENV) $(DATA) $(OUT) $(BENCH_DATA) bench-results landcover-*.parquet notebooks/work docs/api

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; choose another: make PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
