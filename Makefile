# Development commands. PYTHON selects the interpreter, VENV the location of the environment.
PYTHON ?= python3
PYTHONS ?= 3.11 3.12 3.13 3.14
VENV ?= .venv
OUT ?= demo-out
DATA ?= demo-data
BENCH_DATA ?= bench-data
# TorchGeo, ConfigILM and datasets need other versions than this package; each has its own environment.
READERS_PYTHON ?= python3.11
READERS := .venv-readers

BIN := $(VENV)/bin
WITH := $(VENV)/.with
DEV := $(WITH)-dev
QUIETLY := --quiet --disable-pip-version-check -c constraints.txt
# One process more than processors, as some tests wait for others.
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() + 1))')
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# The tests start hundreds of processes, which share the bytecode compiled by the first.
unexport PYTHONDONTWRITEBYTECODE
# They run side by side: threads of PyTorch in each would wait for one another.
test test-train test-all: export OMP_NUM_THREADS = 1
# Clusters without work, which wait for the next test, would spend 9 % of a processor each on watching themselves.
test test-train test-all: export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED = False
test test-train test-all: export DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL = 500ms
test test-train test-all: export DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL = 5s

.PHONY: help demo test test-train test-all test-pythons fuzz readers lint docs pre-commit bench bench-scale bench-codecs \
	bench-split bench-read clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s%s\n", $$1, $$2}'

demo: $(WITH)-report ## Make a small synthetic region and build a dataset from it
	@test -d $(DATA) || { echo "Generating a synthetic region in $(DATA)"; $(BIN)/reben demo $(DATA) >/dev/null; }
	$(BIN)/reben run --s2 $(DATA)/sentinel2 --landcover $(DATA)/landcover.gpkg --countries $(DATA)/countries.gpkg \
		--s1 $(DATA)/sentinel1 --s1-pairs $(DATA)/s1_pairs.csv --out $(OUT) --overwrite

test: $(DEV) $(WITH)-train ## Run unit and integration tests; installs PyTorch (5 min on 2 cores)
	$(PYTEST) -m "not slow" tests/unit tests/integration

test-train: $(DEV) $(WITH)-lightning ## Test the training of networks; installs PyTorch (3 min on 2 cores)
	$(BIN)/python -m pytest tests/train

test-all: $(DEV) $(WITH)-lightning ## Run all tests (15 min on 2 cores)
	$(PYTEST) tests/unit tests/integration tests/train tests/slow tests/deploy tests/readers

test-pythons: ## Run `make test-all` with each installed Python that is supported
	@for version in $(PYTHONS); do \
		if ! python$$version -c '' 2>/dev/null; then echo "Python $$version is not installed; skipped."; \
		else $(MAKE) test-all PYTHON=python$$version VENV=.venv-$$version || exit; fi; \
	done

fuzz: $(DEV) ## Run every reader on a million damaged files, with a new seed each time (hours)
	REBEN_FUZZ_TIMES=70 REBEN_FUZZ_SEED=$$(date +%s) $(BIN)/python -m pytest -rP tests/slow/test_fuzz.py

readers: $(VENV)/.created $(patsubst tests/readers/%.txt,$(READERS)/%/.made,$(wildcard tests/readers/*.txt)) ## Create the environments of other readers

lint: $(DEV) ## Check style, types, and that code and documents agree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/style

docs: $(WITH)-docs ## Build the documentation in docs/site/html; warnings are errors
	$(BIN)/python docs/make_tables.py --check
	rm -rf docs/api/generated
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --jobs auto --conf-dir docs . docs/site/html
	@echo "docs/site/html/index.html"

pre-commit: $(DEV) ## Install hooks that check each commit (style) and push (types)
	$(BIN)/pre-commit install

bench: $(DEV) ## Measure a full-size tile, its forms and a conversion (40 min, 10 GB)
	$(BIN)/python tests/bench/bench_tile.py --region $(BENCH_DATA)
	$(BIN)/python tests/bench/bench_convert.py
	$(BIN)/python tests/bench/bench_forms.py --region $(BENCH_DATA)

bench-scale: $(DEV) ## Measure planning and scheduling of 125, 1,000 and 10,000 tiles
	$(BIN)/python tests/bench/bench_scale.py

bench-codecs: $(DEV) ## Measure chunks, shards and compressors on a product: make bench-codecs PRODUCT=….SAFE
	$(BIN)/python tests/bench/bench_codecs.py $(PRODUCT)

bench-split: $(DEV) ## Measure the stratified split of 500,000 locations
	$(BIN)/python tests/bench/bench_split.py

bench-read: $(DEV) $(WITH)-train ## Measure random reads for training beside the straightforward way (2 min)
	$(BIN)/python tests/bench/bench_read.py

clean: ## Remove the environment, the demo, the documentation and benchmark results
	rm -rf $(VENV) $(READERS) $(DATA) $(OUT) $(BENCH_DATA) bench-results landcover-*.parquet notebooks/work docs/site \
		docs/api/generated

$(VENV)/.created: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; select another: make PYTHON=python3.13"; exit 1; }
	@echo "Creating the environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install $(QUIETLY) pip  # that of Python may be years old, and takes thrice as long
	@touch $@

# One file for each extra that is installed: .with-report, .with-docs, .with-dev. Python compiles what it imports.
$(WITH)-%: $(VENV)/.created
	@echo "Installing reben_dask[$*] in $(VENV)"
	@$(BIN)/python -m pip install $(QUIETLY) --no-compile -e '.[$*]'
	@touch $@

$(READERS)/%/.made: tests/readers/%.txt
	$(READERS_PYTHON) -m venv --clear --without-pip $(@D)
	$(BIN)/python -m pip --python $(@D) install --quiet --disable-pip-version-check --no-compile --no-deps -r $<
	@touch $@
