# `make demo` and `make test` set up .venv first (once); CPU only, no accelerator needed.
SHELL := /bin/bash
PYTHON_IN_VENV := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-faults test-processors lint format doctor

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv with everything pinned; does nothing when it is up to date.
	@./setup.sh

demo: setup ## Train a tiny driving model by reinforcement learning and print what it gained.
	@$(PYTHON_IN_VENV) -m benchmarks.demo

lint: setup ## Check style and types.
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m mypy

test: lint ## Check style and types, then run the tests.
	@$(PYTHON_IN_VENV) -m pytest -m "not fault"

test-faults: setup ## Kill engines, learners, drivers and nodes of real runs, and what else is too long for `make test`.
	@$(PYTHON_IN_VENV) -m pytest -m fault -n0

test-fast: setup ## Run the tests that start no engine, no cluster and no other process (minutes).
	@$(PYTHON_IN_VENV) -m pytest tests/unit -m "not slow"

test-processors: setup ## Run the numerical and engine tests under every kernel path of this processor (hours).
	@$(PYTHON_IN_VENV) -m tests.processors

format: setup ## Rewrite the code in the project's style.
	@$(PYTHON_IN_VENV) -m ruff check --fix .
	@$(PYTHON_IN_VENV) -m ruff format .

doctor: setup ## List what this machine has and lacks.
	@$(PYTHON_IN_VENV) -m cluster.doctor
