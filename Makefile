# Everything here also works in a folder whose path has spaces: names are relative, recipes quote.
.DEFAULT_GOAL := help
.PHONY: help setup setup-run demo test check acceptance baseline nightly soak bench bench-faults wheel format requirements fresh-clone clean
.SUFFIXES:
.NOTPARALLEL:

PY := .venv/bin/python
# EXTERNAL=1: run the tests that need Debian programs or the corpus too, and let none be skipped.
EXTERNAL ?=
# ARGS: more options for pytest, the demo or the benchmarks.
ARGS ?=
# Tests that need no server and take seconds.
FAST := $(wildcard tests/test_*.py tests/raster/*/test_*_property.py) tests/catalogue tests/cli \
	tests/core_machine/test_reconciler_calls.py tests/raster/geometry/test_grid.py \
	tests/raster/test_memory.py tests/storage/test_location.py tests/storage/test_matching.py
PYTEST_EXTERNAL := $(if $(EXTERNAL),--external)

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

setup: ## Make .venv with everything that work on cogmill needs
	@scripts/setup dev

setup-run:
	@scripts/setup run

demo: setup-run ## Set up, then run the main job on a raster made for it (about three minutes)
	@$(PY) scripts/demo.py $(ARGS)

test: setup ## Set up, then run every check and test (EXTERNAL=1: also those that need other programs)
	@$(MAKE) --no-print-directory lint
	$(PY) -m pytest -n 2 --dist worksteal $(PYTEST_EXTERNAL) $(ARGS)

.PHONY: lint
lint:
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports --no-cache
	$(PY) -m mypy

check: setup ## The inner loop: the checks and the fast tests, in seconds
	@$(MAKE) --no-print-directory lint
	$(PY) -m pytest -q -n 2 -m "not slow and not alone" $(FAST) $(ARGS)

acceptance: setup ## The acceptance tests in full; writes build/acceptance.json
	$(PY) -m pytest tests/acceptance --full $(PYTEST_EXTERNAL) $(ARGS)

baseline: setup ## Every output byte of many kinds of input, before a change and after it (ARGS="--compare FILE")
	$(PY) -m tests.baseline.outputs $(ARGS)

nightly: setup ## The larger counts of every proof: hours (ARGS="-k zombies")
	$(PY) -m pytest tests --full --timeout 7200 $(PYTEST_EXTERNAL) $(ARGS)
	$(PY) -m tests.soak.soak --seconds 1800

soak: setup ## Real jobs for ten minutes while a killer strikes; writes build/soak.json (ARGS="--seconds 120")
	$(PY) -m tests.soak.soak $(ARGS)

bench: setup ## Measure side by side with what a user would pick instead
	$(PY) benchmarks/run.py $(ARGS)

bench-faults: setup ## Eight faults on cogmill and four other queues (needs redis-server); writes build/bench-faults.*
	@$(PY) benchmarks/faults/make_venv.py
	$(PY) -m benchmarks.faults $(ARGS)

wheel: setup ## Build dist/*.tar.gz, and dist/*.whl from it
	rm -rf dist
	$(PY) -m build --no-isolation --outdir dist .

fresh-clone: ## What a newcomer does, in a clone with an empty home: make demo, then make test
	scripts/fresh-clone demo test

format: setup ## Put every file into the one layout
	$(PY) -m ruff format .

requirements: ## Pin requirements/*.txt anew (needs uv; ARGS=--upgrade moves every pin)
	@scripts/requirements $(ARGS)

clean: ## Remove what the targets made, .venv too
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
