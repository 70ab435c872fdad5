# `make demo` and `make test` need Python 3.10 to 3.13, pip, make and git. CONTRIBUTING.md tells of the other targets.

# Two sets of versions are supported. `make test` takes the one that fits the Python it finds, `make SET=tf221 test`
# the one that is named, in an environment of its own.
PYTHONS_tf216 := 3.12 3.11 3.10
PYTHONS_tf221 := 3.13 3.12 3.11

# The first interpreter of some versions that runs: on PATH, or where pyenv has it, whose commands on PATH may not run.
installed = $(firstword $(foreach version,$(1),$(shell for python in python$(version) $(HOME)/.pyenv/versions/$(version).*/bin/python; \
  do $$python -c '' 2>/dev/null && echo $$python && break; done)))

ifdef SET
VENV := .venv-$(SET)
PYTHON ?= $(or $(call installed,$(PYTHONS_$(SET))),python3)
else
VENV := .venv
PYTHON ?= python3
SET := $(shell $(or $(wildcard $(VENV)/bin/python),$(PYTHON)) -c 'import sys; print("tf216" if sys.version_info < (3, 13) else "tf221")')
endif

UV_VERSION := 0.13.9
BAZEL ?= $(firstword $(wildcard ../shared/bazel-offline/bazel) bazel)

UV := $(VENV)/bin/uv
INSTALLED := $(VENV)/installed
# TFX needs older libraries than the package by itself, and says Python < 3.11 though it runs on 3.11.
VENV_TFX := .venv-tfx
INSTALLED_TFX := $(VENV_TFX)/installed
TFX_VERSION := 1.16.0

# `make test` runs on one of them, test-pythons on those of the others that are installed.
PYTHONS := $(PYTHONS_tf216)

# Compiled at once: where Python is told not to keep what it compiles, each command would take ten seconds more to start.
# $(1) is the environment's folder, $(2) the set of versions.
install = @$(UV) pip install --quiet --compile-bytecode --python $(1)/bin/python --constraints constraints/$(2).txt \
  --build-constraints constraints/$(2).txt --editable '.[dev,$(2),dev-$(2)]'
QUICK_TESTS := -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-quick python wheel test-pythons $(PYTHONS:%=test-python%) lint types imports budgets site bazel tfx constraints

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

test-quick: $(INSTALLED)
	$(VENV)/bin/python $(QUICK_TESTS)

# Whether an interpreter for the set is there, and which.
python:
	@$(PYTHON) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(PYTHONS_$(SET))".split())' 2>/dev/null && \
	  echo $(PYTHON)

test-pythons: $(PYTHONS:%=test-python%)

$(PYTHONS:%=test-python%): test-python%: $(INSTALLED)
	@if [ "$$($(VENV)/bin/python -c 'import sys; print(*sys.version_info[:2], sep=".")')" = $* ]; then \
	  echo "Python $*: left out, make test runs on it"; exit; fi; \
	python="$(call installed,$*)"; \
	if [ "$$python" ]; then \
	  $(MAKE) --no-print-directory $(VENV)-$*/installed PYTHON=$$python && exec $(VENV)-$*/bin/python $(QUICK_TESTS); \
	else echo "Python $*: skipped, it is not installed"; fi

$(PYTHONS:%=$(VENV)-%/installed): pyproject.toml constraints/tf216.txt | $(UV)
	@echo "Installing the package and its dependencies into $(@D)"
	@$(PYTHON) -m venv $(@D)
	$(call install,$(@D),tf216)
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

# The wheel alone, in an empty environment and outside the repository.
wheel: $(UV)
	@rm -rf build/wheel
	$(UV) build --quiet --wheel --out-dir build/wheel/dist --build-constraints constraints/$(SET).txt
	@$(VENV)/bin/python -m venv build/wheel/venv
	$(UV) pip install --quiet --python build/wheel/venv/bin/python --constraints constraints/$(SET).txt \
	  "keras-ecg-mae[$(SET)] @ file://$$(ls $(CURDIR)/build/wheel/dist/*.whl)"
	@mkdir build/wheel/elsewhere
	cd build/wheel/elsewhere && ../venv/bin/python -m keras_ecg_mae.simulate --recordings=a --labels=a.csv --simulate_patients=9
	cd build/wheel/elsewhere && ../venv/bin/keras-ecg-mae simulate --recordings=b --labels=b.csv --simulate_patients=9
	diff -r build/wheel/elsewhere/a build/wheel/elsewhere/b

tfx: $(INSTALLED_TFX)
	$(VENV_TFX)/bin/python -m pytest tests/pipelines

bazel: $(INSTALLED)
	$(BAZEL) test //...

# Keeps every pin that still fits; delete the file of a set first to take the newest of everything.
constraints: constraints-tf216 constraints-tf221
	$(UV) pip compile pyproject.toml pipelines/tfx-requirements.in --override pipelines/tfx-overrides.txt --quiet \
	  --extra tf216 --python-version 3.10 --no-annotate --no-emit-index-url --custom-compile-command "make constraints" \
	  --output-file pipelines/tfx-constraints.txt

constraints-tf216: FROM := 3.10
constraints-tf216: BELOW := 3.13
constraints-tf221: FROM := 3.11
constraints-tf221: BELOW := 3.14
# uv reads what to resolve for from pyproject.toml alone, where two sets cannot both say it.
constraints-%: $(UV)
	@mkdir -p build/constraints/$*
	@(cat pyproject.toml; printf '[tool.uv]\nenvironments = ["%s"]\n' \
	  "python_version < '$(BELOW)' and sys_platform == 'linux' and platform_machine == 'x86_64'") \
	  >build/constraints/$*/pyproject.toml
	$(UV) pip compile build/constraints/$*/pyproject.toml --project build/constraints/$* --quiet --universal \
	  --python-version $(FROM) --extra $* --extra dev-$* --extra cuda --extra beam --extra dask --extra serving --extra dev \
	  --no-annotate --no-emit-index-url --custom-compile-command "make constraints" --output-file constraints/$*.txt

$(INSTALLED): pyproject.toml constraints/$(SET).txt | $(UV)
	@echo "Installing the package and its dependencies, set $(SET), into $(VENV)"
	$(call install,$(VENV),$(SET))
	@touch $@

$(INSTALLED_TFX): pyproject.toml pipelines/tfx-constraints.txt | $(UV)
	@echo "Installing the package and TFX into $(VENV_TFX)"
	@$(VENV)/bin/python -m venv $(VENV_TFX)
	@$(UV) pip install --quiet --compile-bytecode --python $(VENV_TFX)/bin/python --no-deps --requirement pipelines/tfx-constraints.txt
	@$(VENV_TFX)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --ignore-requires-python \
	  tfx==$(TFX_VERSION) ml-pipelines-sdk==$(TFX_VERSION)
	@$(UV) pip install --quiet --python $(VENV_TFX)/bin/python --no-deps --build-constraints constraints/tf216.txt --editable .
	@touch $@

$(UV):
	@$(MAKE) --no-print-directory python PYTHON=$(PYTHON) SET=$(SET) >/dev/null 2>&1 || { \
	  echo "Expected one of Python $(PYTHONS_$(SET)) as $(PYTHON), for the set $(SET). Received:" \
	    "$$($(PYTHON) --version 2>&1). Name another with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --disable-pip-version-check uv==$(UV_VERSION)
