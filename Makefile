# The lanes: the same words on your machine and in CI. Each is one line that you could type yourself.
# PYTHON=python3.13 picks an interpreter; otherwise the newest suitable one is found.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ANY_PYTHON := $(or $(PYTHON),$(shell command -v python3 || command -v python3.14 || command -v python3.13 \
	|| command -v python3.12 || command -v python3.11 || echo python3))
BIN := .venv/bin
TOGETHER := -j2 --no-print-directory $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

N ?= 200
SEED ?=
PEERS ?=
WORKERS ?= auto
ARGS ?=

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: for-run ## start the gateway with simulated vendors; prints a URL, a key and a curl line
	@exec $(BIN)/python -m xrouter demo $(ARGS)

.PHONY: test
test: for-dev ## every test, on 2 to 4 cores; ARGS="-k name" picks some
	@$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 $(ARGS)

.PHONY: check
check: for-dev ## lint, format, import contracts, security lint, types, docs against the code; under a minute
	@$(MAKE) $(TOGETHER) check-style check-imports check-security check-types check-docs

.PHONY: check-style check-imports check-security check-types check-docs
check-style:
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'Run `make fmt`.'; exit 1; }
check-imports:
	@$(BIN)/lint-imports --no-logo
check-security:
	@$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level medium --recursive src scripts
check-types:
	@$(BIN)/mypy
check-docs:
	@$(BIN)/python -m pytest -p no:cacheprovider tests/architecture

.PHONY: acceptance
acceptance: for-dev ## the official SDKs against the simulators and a running gateway, each in its own environment
	@$(BIN)/python acceptance/run.py $(ARGS)

.PHONY: bench
bench: for-dev ## ours and nginx, under 3 minutes; PEERS=1 adds LiteLLM and gpt2giga
	@$(BIN)/python benchmarks/run.py $(if $(PEERS),--peers) $(ARGS)

.PHONY: faults
faults: for-dev ## every fault, streamed and not, against its promised status; streams cut at every chunk
	@$(BIN)/python -m campaigns.faults $(ARGS)
	@$(BIN)/python -m campaigns.cuts $(ARGS)

.PHONY: crash
crash: for-dev ## kill -9 under load N times (200), then compare the books with what the vendors saw
	@$(BIN)/python -m campaigns.crash $(N) $(SEED)

.PHONY: redis-faults
redis-faults: for-dev ## a Redis that is slow, frozen, refused, flushed, locked: what clients notice of it
	@$(BIN)/python -m campaigns.redis_faults $(ARGS)

.PHONY: breaker
breaker: for-dev ## the circuit breaker against its model over 1,000,000 random sequences of events
	@$(BIN)/python -m campaigns.breaker $(ARGS)

.PHONY: soak
soak: for-dev ## long load; memory, descriptors and books must stay level
	@$(BIN)/python benchmarks/soak.py $(ARGS)

.PHONY: fmt
fmt: for-dev ## format and mend what can be mended
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

.PHONY: docs
docs: for-dev ## write the generated pages again
	@$(BIN)/python scripts/settings_page.py
	@$(BIN)/python scripts/parameters_page.py

.PHONY: sizes
sizes: for-run ## the longest files and functions, the most imported and the most changed modules: a signal, no gate
	@$(BIN)/python scripts/sizes.py

.PHONY: lock
lock: ## resolve requirements/*.lock again; needs uv
	@scripts/lock

.PHONY: clean
clean: ## remove .venv and caches; the data directory .xrouter stays
	@rm -rf .venv .venv.old-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: for-run for-dev
for-run:
	@$(ANY_PYTHON) scripts/bootstrap.py run
for-dev:
	@$(ANY_PYTHON) scripts/bootstrap.py dev
