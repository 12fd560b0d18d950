# Everything runs in .venv, built from requirements.lock (exact versions with hashes) by the first target that
# needs it and built again only when the lock or a pyproject.toml changes.
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.built
GROCERY ?= ../shared/grocery-store
WORKSPACE ?= .photoproof/demo
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench grocery ablation mlflow venv lock clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(STAMP)  ## The whole way on a small sample catalogue, in a scratch workspace: .photoproof/demo
	@$(BIN)/photoproof demo

test: $(STAMP)  ## All tests, in two processes
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## Style, types, what may import what, and that every import is a declared dependency
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/deptry .
	@cd serving/client && ../../$(BIN)/deptry .

bench: $(STAMP)  ## What serving costs on this machine; SERVER=grpc://host:8500 (REST=...) measures that one, MODEL=folder
	@$(BIN)/python -m benchmarks $(if $(SERVER),--server $(SERVER)) $(if $(REST),--rest $(REST)) $(if $(MODEL),--model $(MODEL))

grocery: $(STAMP)  ## The whole way on real photos, a second seed, and from scratch; GROCERY=a folder with catalogue.csv, photos.csv
	@$(BIN)/photoproof demo --catalogue "$(GROCERY)" --setting default --to .photoproof/grocery
	@$(BIN)/python -m benchmarks.ablation --workspace .photoproof/grocery --rows "as set" "from scratch, 96 px" --seeds 1 2

ablation: $(STAMP)  ## What each choice in params.yaml is worth on the data of WORKSPACE=.photoproof/demo; hours on real photos
	@$(BIN)/python -m benchmarks.ablation --workspace "$(WORKSPACE)"

mlflow: $(STAMP)  ## The tracking server and registry on this workspace, http://127.0.0.1:5000
	@$(BIN)/photoproof mlflow

venv: $(STAMP)  ## .venv from requirements.lock, and nothing else

$(STAMP): requirements.lock pyproject.toml serving/client/pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11, 3.12 or 3.13 is needed and none was found: install one, or name it with PYTHON=" >&2; exit 2; fi
	@echo "Setting up .venv (once; takes a minute or two) ..."
	@rm -rf .venv
	@"$(PYTHON)" -m venv .venv
	@awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.lock
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e serving/client -e .
	@touch $@

lock: $(STAMP)  ## requirements.lock from both pyprojects; what it has stays unless a pyproject.toml forbids it
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
		--all-extras --group dev --no-emit-package photoproof pyproject.toml -o requirements.lock

clean:  ## Stage outputs and scratch workspaces; never the database, MLflow or the DVC store
	@rm -rf .photoproof/demo .photoproof/grocery
