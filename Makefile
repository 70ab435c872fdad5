# `make demo` and `make test` need Python 3.10 to 3.12, pip, make and git. CONTRIBUTING.md tells of the other targets.

PYTHON ?= python3
UV_VERSION := 0.13.9
BAZEL ?= $(firstword $(wildcard ../shared/bazel-offline/bazel) bazel)

VENV := .venv
UV := $(VENV)/bin/uv
INSTALLED := $(VENV)/installed
# TFX needs older libraries than the package by itself, and says Python < 3.11 though it runs on 3.11.
VENV_TFX := .venv-tfx
INSTALLED_TFX := $(VENV_TFX)/installed
TFX_VERSION := 1.16.0

# What the package is for. `make test` runs on one of them, test-pythons on those of the others that are installed.
PYTHONS := 3.10 3.11 3.12

.PHONY: demo test test-pythons $(PYTHONS:%=test-python%) lint types imports budgets site bazel tfx constraints

demo: $(INSTALLED)
	@echo "Simulates 1,200 patients of three institutions and prepares their ECGs. Pretrains a small model on"
	@echo "them without labels, fine-tunes it with the labels of a tenth of the patients, evaluates and exports"
	@echo "it. Fine-tunes the same model from random weights with the same labels, and compares both at the"
	@echo "institution that neither has learnt from. On two cores that takes six to ten minutes; a line a"
	@echo "minute says how long is left."
	$(VENV)/bin/python -m keras_ecg_mae.simulate --flagfile=pipelines/demo.flags
	$(VENV)/bin/python -m keras_ecg_mae.prepare --flagfile=pipelines/demo.flags
	$(VENV)/bin/python -m keras_ecg_mae.train --flagfile=pipelines/demo.flags
	$(VENV)/bin/python -m keras_ecg_mae.train --flagfile=pipelines/demo_random.flags
	$(VENV)/bin/python -m keras_ecg_mae.report --report_output=runs/demo/report --report_printed=sentences runs/demo runs/demo_random

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-pythons: $(PYTHONS:%=test-python%)

# An interpreter counts as installed where it is on PATH, or where pyenv has it, whose commands on PATH may not run.
$(PYTHONS:%=test-python%): test-python%: $(INSTALLED)
	@if [ "$$($(VENV)/bin/python -c 'import sys; print(*sys.version_info[:2], sep=".")')" = $* ]; then \
	  echo "Python $*: left out, make test runs on it"; exit; fi; \
	for python in python$* $(HOME)/.pyenv/versions/$*.*/bin/python; do \
	  if $$python -c '' 2>/dev/null; then \
	    $(MAKE) --no-print-directory $(VENV)-$*/installed PYTHON=$$python && \
	    exec $(VENV)-$*/bin/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder; exit; fi; \
	done; echo "Python $*: skipped, it is not installed"

$(PYTHONS:%=$(VENV)-%/installed): pyproject.toml constraints.txt | $(UV)
	@echo "Installing the package and its dependencies into $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(UV) pip install --quiet --compile-bytecode --python $(@D)/bin/python --constraints constraints.txt \
	  --build-constraints constraints.txt --editable '.[dev]'
	@touch $@

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(INSTALLED)
	$(VENV)/bin/mypy

imports: $(INSTALLED)
	$(VENV)/bin/lint-imports

budgets: $(INSTALLED)
	$(VENV)/bin/python tools/budgets.py

site: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

tfx: $(INSTALLED_TFX)
	$(VENV_TFX)/bin/python -m pytest tests/pipelines

bazel: $(INSTALLED)
	$(BAZEL) test //...

# Keeps every pin that still fits; delete constraints.txt first to take the newest of everything.
constraints: $(UV)
	$(UV) pip compile pyproject.toml --quiet --universal --python-version 3.10 --extra cuda --extra beam --extra serving --extra dev \
	  --no-annotate --no-emit-index-url --custom-compile-command "make constraints" --output-file constraints.txt
	$(UV) pip compile pyproject.toml pipelines/tfx-requirements.in --override pipelines/tfx-overrides.txt --quiet \
	  --python-version 3.10 --no-annotate --no-emit-index-url --custom-compile-command "make constraints" \
	  --output-file pipelines/tfx-constraints.txt

# Compiled at once: where Python is told not to keep what it compiles, each command would take ten seconds more to start.
$(INSTALLED): pyproject.toml constraints.txt | $(UV)
	@echo "Installing the package and its dependencies into $(VENV)"
	@$(UV) pip install --quiet --compile-bytecode --python $(VENV)/bin/python --constraints constraints.txt \
	  --build-constraints constraints.txt --editable '.[dev]'
	@touch $@

$(INSTALLED_TFX): pyproject.toml pipelines/tfx-constraints.txt | $(UV)
	@echo "Installing the package and TFX into $(VENV_TFX)"
	@$(VENV)/bin/python -m venv $(VENV_TFX)
	@$(UV) pip install --quiet --compile-bytecode --python $(VENV_TFX)/bin/python --no-deps --requirement pipelines/tfx-constraints.txt
	@$(VENV_TFX)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --ignore-requires-python \
	  tfx==$(TFX_VERSION) ml-pipelines-sdk==$(TFX_VERSION)
	@$(UV) pip install --quiet --python $(VENV_TFX)/bin/python --no-deps --build-constraints constraints.txt --editable .
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || { \
	  echo "Expected Python 3.10, 3.11 or 3.12 as $(PYTHON). Received: $$($(PYTHON) --version 2>&1)." \
	    "Name another with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check uv==$(UV_VERSION)
