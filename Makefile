# `make run` needs Python 3.11 or newer and nothing else. Paths are relative, so the repository may lie anywhere.
PYTHON ?=
VENV := .venv
IN := $(VENV)/bin/python
# Python compiles what it imports; compiling all that is installed, most of it never imported, would take half of the time.
PIP := $(IN) -m pip install --disable-pip-version-check --no-compile $(if $(wildcard constraints.txt),-c constraints.txt)
# A venv that was interrupted while it was made has no pip.
ENSURE_PIP := $(IN) -m pip --version >/dev/null 2>&1 || $(IN) -m ensurepip --upgrade
DATA ?= ../shared/data
# A module whole, with what it loads once; the longest begin (tests/longest_first.py).
ON_EVERY_CORE := -n auto --dist loadfile --no-loadscope-reorder
INPUTS := pyproject.toml $(wildcard constraints.txt)

.DEFAULT_GOAL := help
# Images of Python forbid it to keep what it compiled; then every process that is started here compiles everything, for seconds.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help run install sample dev test test-all test-pgbouncer schemathesis r2 pgbouncer rehearse bench check lint-migrations docs eval figures recall bench-peers format clean

##@ Use it
help: ## List the targets
	@echo "A hybrid search service on Postgres and R2. Begin with: make run"
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Variables, before the command: PORT=8001 make run"
	@echo "  PORT               where make run serves; 8000"
	@echo "  DATA_DIR           where it keeps everything; .local"
	@echo "  EMBEDDING_MODEL    a sentence-transformers model; hashing starts without one, with poor semantics"
	@echo "  DATA               a folder of judged collections and files for test, eval and figures; ../shared/data"
	@echo "  PYTHON             the interpreter to make .venv with; the first of python3, python3.14 … 3.11 that will do"
	@echo
	@echo "README.md is the way in; docs/README.md lists every page."

run: $(VENV)/.installed ## Install what is missing, then start everything on this machine until Ctrl-C
	@exec $(IN) -m service run

install: $(VENV)/.installed ## Make .venv and install the service with its embedded stack

sample: $(VENV)/.installed ## Index the documentation of Python's standard library, and try five queries on it
	@$(IN) -m service sample

##@ Work on it
dev: $(VENV)/.installed-dev ## Make .venv with the tools for tests and checks too

test: $(VENV)/.installed-dev ## Run the tests: no Docker, no network; TEST_STACK=containers or env runs them elsewhere
	@$(IN) -m pytest $(if $(filter env,$(TEST_STACK)),-n 0,$(ON_EVERY_CORE))

test-all: export THOROUGH = 1
test-all: r2 test ## All of them: the slow ones too, and the R2 emulator beside rclone

test-pgbouncer: pgbouncer ## The tests of the service through PgBouncer in transaction mode, tracked, then untracked
	@TEST_POOLER=tracked $(IN) -m pytest $(ON_EVERY_CORE)
	@TEST_POOLER=untracked $(IN) -m pytest $(ON_EVERY_CORE)

schemathesis: $(VENV)/.installed-dev ## Try 5,000 requests made from the OpenAPI document on a service of its own: all checks
	@$(IN) -m tests.openapi

r2: $(VENV)/.installed-dev ## Install the R2 emulator for the tests, from npm (174 MB)
	@$(IN) infra/r2-local/install.py

pgbouncer: $(VENV)/.installed-dev ## Build PgBouncer for the tests, from the source of Debian
	@$(IN) infra/pgbouncer/install.py

rehearse: pgbouncer ## Run the last releases side by side under load while the schema changes below them: 6 minutes
	@$(IN) -m rehearsal $(REHEARSE)

check: lint-migrations ## Lint, format, types, the layers, the migrations and the Dockerfile, in under a minute
	@$(IN) -m ruff check .
	@$(IN) -m ruff format --check .
	@$(IN) -m mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/hadolint infra/Dockerfile

lint-migrations: $(VENV)/.installed-dev ## Check the SQL of every migration: nobody waits, nothing breaks
	@$(IN) -m service migrate lint

format: $(VENV)/.installed-dev ## Rewrite the code in the one format
	@$(IN) -m ruff format .
	@$(IN) -m ruff check --fix .

docs: $(VENV)/.installed-dev ## Write the pages of docs/reference that are made from the code
	@$(IN) -m tests.reference_pages

##@ Measure it, while make run runs on an idle machine
eval: $(VENV)/.installed-figures ## Relevance on the judged collections in DATA, beside RRF, the textbook's recipe and bm25s
	@DATA="$(DATA)" $(IN) -m service bench relevance

figures: $(VENV)/.installed-figures ## Every other figure of a running service, each against its goal
	@missed=0; for name in ingest-rate 'ingest-rate --bulk' search-while-ingesting search-latency small-document first-search files lexical explain facets walks request-path drivers bytes; do \
		DATA="$(DATA)" $(IN) -m service bench $$name || missed=1; done; exit $$missed

recall: $(VENV)/.installed ## Filtered recall and latency on arXiv, and served against exact; the first time computes vectors
	@missed=0; for command in "filtered-recall --keep" filtered-latency served-top; do \
		DATA="$(DATA)" $(IN) -m service bench $$command || missed=1; done; exit $$missed

bench: $(VENV)/.installed-bench ## The benchmark, with a service of its own: load, recall, memory, pictures; 16 minutes, then 13
	@DATA="$(DATA)" $(IN) -m bench run
	@$(IN) -m bench report bench/results/latest.json > bench/results/latest.md
	@$(IN) -m bench plot bench/results/latest.json
	@echo "bench/results/latest.md"

bench-peers: $(VENV)/.installed ## The service beside Chroma, txtai, LanceDB and others in one run: 25 minutes at most
	@DATA="$(DATA)" $(IN) -m bench.peers $(PEERS)

##@ Clean up
clean: ## Remove .venv, caches and builds; the data in .local stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find service tests migrations rehearsal bench -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an install that was interrupted is taken up again. One that is there costs nothing.
$(VENV)/.installed: $(INPUTS) | $(VENV)/bin/python
	@echo "Installing into $(VENV) (the first time takes a few minutes) ..."
	@$(ENSURE_PIP)
	@$(PIP) -e '.[local]'
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(VENV)/bin/python
	@echo "Installing into $(VENV) (the first time takes a few minutes) ..."
	@$(ENSURE_PIP)
	@$(PIP) -e '.[local,otel,dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-figures $(VENV)/.installed-bench

$(VENV)/.installed-figures: $(INPUTS) | $(VENV)/bin/python
	@echo "Installing into $(VENV) (the first time takes a few minutes) ..."
	@$(ENSURE_PIP)
	@$(PIP) -e '.[local,figures]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(INPUTS) | $(VENV)/bin/python
	@echo "Installing into $(VENV) (the first time takes a few minutes) ..."
	@$(ENSURE_PIP)
	@$(PIP) -e '.[local,bench]'
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
