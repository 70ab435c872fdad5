# `make demo` and `make test` need Python 3.10 to 3.12, pip, make and git. CONTRIBUTING.md tells of the other targets.

PYTHON ?= python3
UV_VERSION := 0.13.9
BAZEL ?= $(firstword $(wildcard ../shared/bazel-offline/bazel) bazel)

VENV := .venv
UV := $(VENV)/bin/uv
INSTALLED := $(VENV)/installed

.PHONY: demo test lint types imports bazel constraints

demo: $(INSTALLED)
	$(VENV)/bin/python -m keras_ecg_mae.simulate --flagfile=pipelines/demo.flags
	$(VENV)/bin/python -m keras_ecg_mae.prepare --flagfile=pipelines/demo.flags
	$(VENV)/bin/python -m keras_ecg_mae.train --flagfile=pipelines/demo.flags

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(INSTALLED)
	$(VENV)/bin/mypy

imports: $(INSTALLED)
	$(VENV)/bin/lint-imports

bazel: $(INSTALLED)
	$(BAZEL) test //...

# Keeps every pin that still fits; delete constraints.txt first to take the newest of everything.
constraints: $(UV)
	$(UV) pip compile pyproject.toml --quiet --universal --python-version 3.10 --extra cuda --extra beam --extra serving --extra dev \
	  --no-annotate --no-emit-index-url --custom-compile-command "make constraints" --output-file constraints.txt

$(INSTALLED): pyproject.toml constraints.txt | $(UV)
	@echo "Installing the package and its dependencies into $(VENV)"
	@$(UV) pip install --quiet --python $(VENV)/bin/python --constraints constraints.txt \
	  --build-constraints constraints.txt --editable '.[dev]'
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || { \
	  echo "Expected Python 3.10, 3.11 or 3.12 as $(PYTHON). Received: $$($(PYTHON) --version 2>&1)." \
	    "Name another with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check uv==$(UV_VERSION)
