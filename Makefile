# One command for each job; everything runs in .venv. `make up ARGS="--port 8123"` passes options on to `weir up`.

SHELL := /bin/sh
VENV := .venv
# A virtual environment is bound to its folder, so the stamp is too: a moved project sets up again.
STAMP := $(VENV)/.set-up-$(shell pwd | cksum | cut -d ' ' -f 1)
BIN := $(VENV)/bin
# Candidates in order of preference; `make setup PYTHON=/path/to/python3` decides otherwise.
PYTHON := python3.13 python3.12 python3.11 python3
ARGS :=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_USER := 0
# Without these files each of the hundred processes that the tests start compiles all modules anew.
unexport PYTHONDONTWRITEBYTECODE

# A Python that was removed or replaced under .venv is set up again as well.
ifneq ($(shell $(BIN)/python -c 'print("runs")' 2>/dev/null),runs)
.PHONY: $(STAMP)
endif

.PHONY: help setup up test suite kafka lint types layers unit integration constraints clean

help:
	@echo "make up      set up, then run the whole system (options: make up ARGS=\"--no-demo --port 8123\")"
	@echo "make test    set up, then every gate: lint, types, layers, all tests"
	@echo "make kafka   the tests that take a broker, on Apache Kafka (needs Java 17 and Maven)"
	@echo "make setup   only set up .venv, and the system's libraries that scans need"
	@echo "make lint | types | layers | unit | integration   one gate each"
	@echo "make constraints   renew constraints.txt    make clean   remove .venv and caches"

# The libraries of the system that scans need are looked for each time, which takes a moment: they are not part of .venv.
setup: $(STAMP)
	@$(BIN)/python -P -m ops.system_libraries

$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if [ -t 1 ]; then bar=on; else bar=off; fi; \
	python=; lacking=; \
	for candidate in $(PYTHON); do \
	  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  if "$$candidate" -c 'import venv, ensurepip' 2>/dev/null; then python=$$candidate; break; fi; \
	  lacking=$${lacking:-$$candidate}; \
	done; \
	if [ -z "$$python" ] && [ -n "$$lacking" ]; then \
	  echo "setup: $$lacking has no venv module with ensurepip; install it (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; \
	elif [ -z "$$python" ]; then \
	  echo "setup: no Python 3.11 or newer among $(PYTHON); install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if [ -e "$@" ] && $(BIN)/python -c '' 2>/dev/null; then \
	  echo "setup: what is needed has changed; installing that"; \
	else \
	  echo "setup: $$("$$python" --version) in $(VENV); the first time takes a minute or two"; \
	  "$$python" -m venv --clear $(VENV); \
	fi; \
	$(BIN)/python -m pip install --progress-bar $$bar -c constraints.txt -e '.[dev]'; \
	touch "$@"; \
	echo "setup: done"

# `exec`, so that signals reach `weir up` itself and not a shell in between.
up: setup
	@exec $(BIN)/weir up $(ARGS)

# The tests sort their files themselves, the longest first, so that no process is left alone with one at the end.
SPREAD := --dist loadfile --no-loadscope-reorder

# mypy keeps one processor busy for half a minute, so the tests do not wait for it.
test: lint layers
	@$(MAKE) --no-print-directory --jobs 2 types suite

# Without columns in tracebacks: Python 3.11 parses lines for them, and when two threads do so at once, one fails.
PYTEST := PYTHONNODEBUGRANGES=1 $(BIN)/python -m pytest

# Tests of real servers mostly wait: three processes, each with servers of its own, halve the time on two cores.
suite: setup
	@$(PYTEST) -n 3 $(SPREAD)

kafka: setup
	@WEIR_TEST_BROKER=kafka $(PYTEST) -n 2 $(SPREAD) -m broker tests/integration

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy

layers: setup
	@$(BIN)/lint-imports

# These share nothing that is dear to make, so they need not stay with their file.
unit: setup
	@$(PYTEST) -n 2 --dist worksteal tests/unit

integration: setup
	@$(PYTEST) -m integration

# Resolves pyproject.toml anew in a throw-away environment; names and versions only.
constraints:
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	python3.11 -m venv "$$folder/venv"; \
	python3.11 -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["dev"], sep="\n")' > "$$folder/wanted"; \
	"$$folder/venv/bin/python" -m pip install -r "$$folder/wanted"; \
	{ head -n 1 constraints.txt; "$$folder/venv/bin/python" -m pip freeze | LC_ALL=C sort -f; } > "$$folder/constraints"; \
	cp "$$folder/constraints" constraints.txt

clean:
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
