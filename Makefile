.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
TARGET ?= local

# Python writes bytecode here whatever the machine's settings: without it each process compiles its libraries anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help check setup run demo year test long prep update outputs lab bench clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# The first Python of a fitting version among the usual names, or the one given: make setup PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
JAVA := $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)

check:
	@if [ -z "$(PYTHON)" ]; then echo "boathouse needs Python 3.11 or 3.12, and none of python3, python3.12, python3.11 is one." \
	  "Install one (Debian: apt install python3 python3-venv; macOS: brew install python@3.12), or name it: make setup PYTHON=/path/to/python" >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then echo "$(PYTHON) cannot make virtual environments. Debian: apt install python3-venv" >&2; exit 1; fi
	@version=$$($(JAVA) -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p' | head -n 1); \
	if [ -z "$$version" ] || [ "$$version" -lt 17 ]; then echo "boathouse needs Java 17 or newer; '$(JAVA)' is $${version:+version $$version}$${version:-not there}." \
	  "Install one (Debian: apt install openjdk-17-jre-headless; macOS: brew install openjdk@17), or set JAVA_HOME." >&2; exit 1; fi

setup: check $(STAMP)  ## Make .venv with the pinned packages, and fetch Delta's jars once
	@$(BIN)/python -m boathouse.workspace.spark.session

# Says every five seconds how far the installation has come.
define PROGRESS
while sleep 5; do \
  echo "  $$(ls -d $(VENV)/lib/python3*/site-packages/*.dist-info 2>/dev/null | wc -l) of $$(grep -c == requirements.txt) packages installed after $$SECONDS s"; \
done & trap "kill $$!" EXIT
endef

$(STAMP): requirements.txt pyproject.toml
	@echo "Setting up $(VENV): half a minute with uv, two to five minutes with pip"
	@$(PROGRESS); \
	if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && uv pip install --quiet --python $(BIN)/python -r requirements.txt \
	  && uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation -e .; \
	fi
	@touch $(STAMP)

run: setup  ## Run the whole lifecycle on the flights of 2013: October to December, month by month
	@$(BIN)/boathouse run lifecycle -t $(TARGET)

# A browser opens where a screen is: always on macOS, elsewhere if a display is named.
demo: setup  ## Run the same in under two minutes on one airport, with a refused model, a drift and a rollback, and open its page
	@if [ -f .boathouse/demo/cluster.json ]; then $(BIN)/boathouse cluster stop --force -t demo; fi; rm -rf .boathouse/demo
	@$(BIN)/boathouse run demo -t demo
	@page=$$(find .boathouse/demo/runs -maxdepth 2 -name index.html | head -n 1); \
	if [ -n "$$page" ] && { [ "$$(uname)" = Darwin ] || [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; }; then $(BIN)/python -m webbrowser "file://$$PWD/$$page" >/dev/null; fi

year: setup  ## The same from February on, where retraining visibly pays
	@$(BIN)/boathouse run lifecycle -t year --param start=2013-02-01 --param months=11

SUITE := -n 2 --dist loadscope --no-loadscope-reorder --durations=20

test: setup  ## Run the suite: units, properties, every notebook
	@$(BIN)/python -m pytest $(SUITE) -m "not long"

long: setup  ## Run the tests that take minutes each: a lifecycle by the command line, kills after every commit, the whole year
	@$(BIN)/python -m pytest $(SUITE) -m long

prep: setup  ## Format, clean and export the notebooks, and check that modules agree with them
	@$(BIN)/ruff format --quiet notebooks src/boathouse/workspace tests bench conftest.py
	@$(BIN)/nbdev-clean
	@$(BIN)/python tests/support/export.py
	@$(BIN)/ruff check notebooks src/boathouse/workspace tests bench conftest.py
	@$(BIN)/python -m pytest -q tests/test_sync.py

update: setup  ## Carry edits of generated modules back into their notebooks
	@$(BIN)/python -c "from nbdev.doclinks import _build_modidx; _build_modidx()"
	@$(BIN)/nbdev-update
	@rm src/_modidx.py

outputs: prep  ## Run every chapter and write its outputs back
	@$(BIN)/python -m pytest -q tests/test_notebooks.py --save-outputs
	@$(BIN)/nbdev-clean

lab: setup  ## Open the tour and the other notebooks in JupyterLab, on this workspace's tables
	@$(BIN)/jupyter lab --notebook-dir notebooks notebooks/00_tour.ipynb

bench: setup  ## Print the side-by-side measurements
	@for script in bench/*.py; do $(BIN)/python $$script; done

clean:  ## Delete what runs made (tables, models, logs), not the environment
	@for state in .boathouse/*/cluster.json; do if [ -f $$state ]; then $(BIN)/boathouse cluster stop --force -t $$(basename $$(dirname $$state)); fi; done
	@find .boathouse -mindepth 1 -maxdepth 1 ! -name jars -exec rm -rf {} + 2>/dev/null || true
	@rm -rf .pytest_cache .hypothesis .ruff_cache build dist
