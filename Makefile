# What people type here; `make` alone prints the list.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BUDGET ?= 75 seconds
# Two processes with one thread each: two torch threads that compete are up to 200 times slower than one.
WORKERS ?= 2
TESTS ?= tests

BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.docs-ready

.PHONY: help demo demo-again test lint format docs data clean

help: ## print this list
	@echo "bestiary: classic deep generative models, compared honestly. On two slow cores:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) data ## train and compare four models on Fashion-MNIST, write demo/report.html (12 minutes)
	@BUDGET='$(BUDGET)' scripts/demo

demo-again: ## forget the finished comparison and do it anew (10 minutes)
	@rm -rf demo
	@$(MAKE) --no-print-directory demo

test: lint data ## all checks and tests (10 minutes)
	@echo "== tests"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) $(TESTS)

lint: $(READY) ## style, formatting, types and layers (half a minute)
	@echo "== style (ruff)" && $(BIN)/ruff check
	@echo "== formatting (ruff)" && $(BIN)/ruff format --check
	@echo "== types (mypy)" && $(BIN)/mypy
	@echo "== layers (import-linter)" && $(BIN)/lint-imports --no-logo

format: $(READY) ## put style and formatting right where that can be done without you
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

docs: $(DOCS_READY) ## build the documentation into docs/_build/html (half a minute)
	@$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

data: ## install Fashion-MNIST and the word list where they are missing and can be
	@scripts/get-data

clean: ## remove .venv and everything else that was made here, except runs and comparisons
	rm -rf .venv docs/_build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests docs examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt scripts/set-up
	@PYTHON='$(PYTHON)' scripts/set-up dev
	@touch $@

$(DOCS_READY): $(READY)
	@scripts/set-up docs
	@touch $@
