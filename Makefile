# What one does with the repository; `make` alone lists the targets. Every target sets up what it needs by itself.
# Variables: PYTHON=/path/to/python3.x for set-up, ARGS="-k word -x" for the tests, UPGRADE=1 for the locks.
.DEFAULT_GOAL := help
.PHONY: help setup setup-floor demo test test-long test-all test-floor scd2-campaign crash faults pictures lint format lock wheel clean distclean
SHELL := /bin/bash

VENV := .venv
PY := $(VENV)/bin/python
UTILITYFLOW := $(VENV)/bin/utilityflow

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: ## make .venv/: packages from the lock, the Delta jars (once; later runs need no network)
	@requirements/setup.sh default

setup-floor: ## the same for the floor lane (Spark 3.5, Delta 3.2): .venv-floor/
	@requirements/setup.sh floor

demo: setup ## simulate a month of six systems, run it, print a summary (ARGS="--months 2": two, one by one)
	@$(UTILITYFLOW) demo $(ARGS)

test: setup lint ## lint, types and the everyday tests (default lane)
	@$(PY) -m pytest -m "not slow and not long and not heavy" $(ARGS)

test-long: setup ## the longer tests that CI runs as well: scenarios, kills, a month of 100,000 customers
	@$(PY) -m pytest -m "(long or heavy) and not slow" $(ARGS)

test-all: setup lint ## every test there is, the slow ones too
	@$(PY) -m pytest $(ARGS)

# scenarios, cluster, longer tests and numbered faults take many minutes: make test-floor FLOOR_LATER= runs them too (faults: make faults LANE=floor)
FLOOR_LATER := --ignore=tests/scenarios --ignore=tests/jobs/test_cluster.py -m "engine and not slow and not long and not heavy and not fault"

test-floor: setup-floor ## the engine-sensitive tests on the floor lane
	@.venv-floor/bin/python -m pytest -m "engine and not slow" $(FLOOR_LATER) $(ARGS)

# another number tries other histories: make scd2-campaign START=7; LANE=floor runs it on Spark 3.5; HISTORIES of each kind
LANE := default
START := 1
HISTORIES := 6000
lane_python = $(if $(filter floor,$(LANE)),.venv-floor,.venv)/bin/python

scd2-campaign: setup $(if $(filter floor,$(LANE)),setup-floor) ## tens of thousands of histories, the large cases at full size
	@SCD2_CAMPAIGN=$(HISTORIES) SCD2_SEEDS=200 SCD2_MANY=3000000 SCD2_BUSY=100000 SCD2_START=$(START) $(lane_python) -m pytest \
		tests/scd2 -s --timeout=7200 $(ARGS)

# POINTS=20 takes a sample by SEED (default: the day); RANDOM=50 kills at random times too; WALK=systems takes one; LANE=floor
crash: setup $(if $(filter floor,$(LANE)),setup-floor) ## kill runs at every commit, rename and outside write, start them again, compare
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(lane_python) tests/faults/crash_sweep.py "$$folder" \
		$(if $(WALK),--walk $(WALK)) $(if $(POINTS),--points $(POINTS)) $(if $(RANDOM),--random $(RANDOM)) $(if $(SEED),--seed $(SEED))

# LANE=floor runs them on Spark 3.5; REPORT=file keeps the rows as JSON lines
faults: setup $(if $(filter floor,$(LANE)),setup-floor) ## the numbered faults: each injected, detected, mended; a table at the end
	@report="$(REPORT)"; [ -n "$$report" ] || { report=$$(mktemp) && trap 'rm -f "$$report"' EXIT; }; \
		UF_FAULTS="$$report" $(lane_python) -m pytest -q -m fault $(ARGS)

pictures: setup ## draw docs/pictures anew from what the engine does
	@UTILITYFLOW_WRITE_PICTURES=1 $(PY) -m pytest -q tests/scd2/test_pictures.py

lint: setup ## ruff and mypy
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/mypy

format: setup ## sort imports and lay the code out
	@$(VENV)/bin/ruff check --select I --fix --quiet
	@$(VENV)/bin/ruff format

lock: setup ## refresh requirements/*.lock (UPGRADE=1 takes newer versions)
	@requirements/lock.sh

wheel: setup ## dist/utilityflow-*.whl and its twin .zip for --py-files
	@requirements/build.sh

clean: ## remove what builds and tests leave
	@rm -rf dist .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse metastore_db derby.log
	@find lib tests jobs requirements -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove the environments
	@rm -rf .venv .venv-floor
