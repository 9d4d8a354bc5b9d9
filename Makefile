# `make run` needs Python 3.11 or newer and nothing else. Paths are relative, so the repository may lie anywhere.
PYTHON ?=
VENV := .venv
IN := $(VENV)/bin/python
PIP := $(IN) -m pip install --disable-pip-version-check $(if $(wildcard constraints.txt),-c constraints.txt)
# A venv that was interrupted while it was made has no pip.
ENSURE_PIP := $(IN) -m pip --version >/dev/null 2>&1 || $(IN) -m ensurepip --upgrade
DATA ?= ../shared/data
INPUTS := pyproject.toml $(wildcard constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help run install dev test test-all r2 check eval figures format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=python3.12  the interpreter to make .venv with (default: the first of python3, python3.14 … 3.11 that will do)"
	@echo "  PORT=8000          where make run serves        DATA_DIR=.local  where it keeps everything"

run: $(VENV)/.installed ## Install what is missing, then start everything on this machine until Ctrl-C
	@exec $(IN) -m service run

install: $(VENV)/.installed ## Make .venv and install the service with its embedded stack

dev: $(VENV)/.installed-dev ## The same, and the tools for tests and checks

test: $(VENV)/.installed-dev ## Run the tests: no Docker, no network
	@$(IN) -m pytest -n auto

test-all: r2 test ## The same with the R2 emulator beside rclone

r2: $(VENV)/.installed-dev ## Install the R2 emulator for the tests, from npm (174 MB)
	@$(IN) infra/r2-local/install.py

check: $(VENV)/.installed-dev ## Lint, format, types and the layers, in under a minute
	@$(IN) -m ruff check .
	@$(IN) -m ruff format --check .
	@$(IN) -m mypy
	@$(VENV)/bin/lint-imports

eval: $(VENV)/.installed ## Relevance of a running service on the judged collections in DATA
	@for name in cranfield scifact_train medquad_dev; do $(IN) -m service eval "$(DATA)/$$name" || exit 1; done

figures: $(VENV)/.installed ## Every other figure of a running service, each against its goal
	@missed=0; for name in ingest-rate search-latency small-document first-search files; do \
		DATA="$(DATA)" $(IN) -m service bench $$name || missed=1; done; exit $$missed

format: $(VENV)/.installed-dev ## Rewrite the code in the one format
	@$(IN) -m ruff format .
	@$(IN) -m ruff check --fix .

clean: ## Remove .venv, caches and builds; the data in .local stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find service tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an install that was interrupted is taken up again. One that is there costs nothing.
$(VENV)/.installed: $(INPUTS) | $(VENV)/bin/python
	@echo "Installing into $(VENV) (the first time takes a few minutes) ..."
	@$(ENSURE_PIP)
	@$(PIP) -e '.[local]'
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(VENV)/bin/python
	@echo "Installing into $(VENV) (the first time takes a few minutes) ..."
	@$(ENSURE_PIP)
	@$(PIP) -e '.[local,dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/bin/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer is needed, and $(if $(PYTHON),$(PYTHON) is older or missing,none is on the PATH): install one, or name it with PYTHON=/path/to/python3." >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$$python has no venv module: install it (on Debian and Ubuntu: apt install python3-venv), or name another with PYTHON=." >&2; exit 1; \
	fi; \
	"$$python" -m venv --clear $(VENV)
