# Everything that a person does with a clone. PYTHON chooses the interpreter, VENV where the environment stands.
PYTHON ?= python3
PYTHONS ?= 3.11 3.12 3.13 3.14
VENV ?= .venv
OUT ?= demo-out
DATA ?= demo-data
BENCH_DATA ?= bench-data

BIN := $(VENV)/bin
WITH := $(VENV)/.with
DEV := $(WITH)-dev
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The tests start hundreds of processes: the first of them compiles the package for all.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all test-pythons fuzz lint docs pre-commit bench bench-scale bench-codecs bench-split clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s%s\n", $$1, $$2}'

demo: $(WITH)-report ## Make a small synthetic region and build a dataset from it
	@test -d $(DATA) || $(BIN)/reben demo $(DATA)
	$(BIN)/reben run --s2 $(DATA)/sentinel2 --landcover $(DATA)/landcover.gpkg \
		--countries $(DATA)/countries.gpkg --out $(OUT) --overwrite

test: $(DEV) ## Run unit and integration tests (5 min on 2 cores)
	$(PYTEST) -m "not slow" tests/unit tests/integration

test-all: $(DEV) ## Run all tests, with more examples (15 min on 2 cores)
	$(PYTEST) --hypothesis-profile=nightly tests/unit tests/integration tests/slow tests/deploy

test-pythons: ## Run `make test-all` with each supported Python that this machine has
	@for version in $(PYTHONS); do \
		if ! python$$version -c '' 2>/dev/null; then echo "Python $$version is not on this machine: not tested."; \
		else $(MAKE) test-all PYTHON=python$$version VENV=.venv-$$version || exit; fi; \
	done

fuzz: $(DEV) ## Give every reader a million damaged files, others each time (hours)
	REBEN_FUZZ_TIMES=70 REBEN_FUZZ_SEED=$$(date +%s) $(BIN)/python -m pytest -rP tests/slow/test_fuzz.py

lint: $(DEV) ## Check style, types, and that code and documents agree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/style

docs: $(WITH)-docs ## Build the documentation in docs/site/html; a warning is an error
	$(BIN)/python docs/make_tables.py --check
	rm -rf docs/api/generated
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --jobs auto --conf-dir docs . docs/site/html
	@echo "docs/site/html/index.html"

pre-commit: $(DEV) ## Check each commit (style) and push (types) in this clone, from now on
	$(BIN)/pre-commit install

bench: $(DEV) ## Measure a full-size tile and a conversion beside the naive way (half an hour, 10 GB)
	$(BIN)/python tests/bench/bench_tile.py --region $(BENCH_DATA)
	$(BIN)/python tests/bench/bench_convert.py

bench-scale: $(DEV) ## Measure planning and scheduling of 125, 1,000 and 10,000 tiles
	$(BIN)/python tests/bench/bench_scale.py

bench-codecs: $(DEV) ## Measure chunks, shards and compressors on a product: make bench-codecs PRODUCT=….SAFE
	$(BIN)/python tests/bench/bench_codecs.py $(PRODUCT)

bench-split: $(DEV) ## Measure the stratified split of 500,000 locations
	$(BIN)/python tests/bench/bench_split.py

clean: ## Remove the environment, the demo, the documentation and what the benchmarks made
	rm -rf $(VENV) $(DATA) $(OUT) $(BENCH_DATA) bench-results landcover-*.parquet notebooks/work docs/site \
		docs/api/generated

$(VENV)/.created: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; choose another: make PYTHON=python3.13"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# One file for each extra that is installed: .with-report, .with-docs, .with-dev
$(WITH)-%: $(VENV)/.created
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
