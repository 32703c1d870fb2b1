# `make demo` or `make test` on a bare machine: each makes the environment it needs in .venv, once, and runs.
#
#   PYTHON=python3.12       the Python to make .venv with (default: the first of 3.11 or newer that runs)
#   VENV=path               use this environment instead of .venv; what it has, torch above all, is kept
#   TORCH="torch==2.13.0"   what to give pip for torch where .venv has none; empty leaves the choice to pip
#   ARGS="..."              more arguments for the command that is run: make test ARGS="tests/test_regions.py -x"

VENV ?= .venv
PYTHON ?=
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --no-input --disable-pip-version-check
# Test processes, of one thread each.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); \
	if [ $$n -gt 4 ]; then echo 4; elif [ $$n -gt 1 ]; then echo $$n; else echo 0; fi)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-vllm lint format docs clean

help:
	@echo "make demo       train the embedded model to look closer, and write runs/demo/report.html"
	@echo "make test       the tests (make test-slow: those that train for minutes)"
	@echo "make test-vllm  rollouts by vLLM on a CPU, in an environment of its own (2.5 GB)"
	@echo "make lint       ruff, mypy, import contracts"
	@echo "make format     mend what ruff can"
	@echo "make docs       write docs/cli.md anew and check the links between pages"
	@echo "make clean      remove caches and builds (.venv and runs/ stay)"

demo: $(VENV)/.installed
	$(BIN)/foveate demo $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n $(WORKERS) $(ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow $(ARGS)

# Not in $(VENV) unless it is named: vLLM for a CPU brings a torch and more of its own.
test-vllm:
	PYTHON="$(PYTHON)" $(if $(filter-out file,$(origin VENV)),VENV="$(VENV)") scripts/vllm_check.sh $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.installed-dev
	mkdir -p docs
	$(BIN)/typer foveate.cli utils docs --name foveate --title "The command line" --output docs/cli.md
	sed -i.bak -e 's/<span[^>]*>/`/g; s/<\/span>/`/g; s/\[\/*bold\]/`/g; s/&quot;/"/g' docs/cli.md && rm docs/cli.md.bak
	$(BIN)/pytest tests/test_docs.py

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, in three steps. Each leaves a stamp in $(VENV); a changed pyproject.toml runs the last two again,
# which installs what is missing and keeps what fits.

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(PIP) install -e ".[dev]"
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(PIP) install -e .
	@touch $@

# A torch that is there is kept. Without a GPU a fixed version is named first, of which an index for such machines
# offers a CPU build; with one, pip chooses within the range of pyproject.toml.
ifeq ($(origin TORCH),undefined)
TORCH := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo torch==2.13.0)
endif

$(VENV)/.torch: $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	@if $(BIN)/python -c 'import importlib.metadata as m; print("keeping torch", m.version("torch"))' 2>/dev/null; \
	then :; \
	elif [ -n "$(TORCH)" ]; then set -x; $(PIP) install $(TORCH); \
	fi
	@touch $@

$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$python cannot make an environment: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $$("$$python" --version)"; \
		exec "$$python" -m venv "$(VENV)"; \
	done; \
	echo "foveate needs Python 3.11 or newer; none of these is: $(or $(PYTHON),python3 python3.13 python3.12 python3.11)" >&2; \
	echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name one: make ... PYTHON=/path/to/python" >&2; \
	exit 1
