# What a person and CI run. `make` lists the targets.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test sanitize lint types docs wheels oldest bench bench-quick clean

# The first Python on the path that is new enough; `make PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
DEMO_STAMP := $(VENV)/.demo

# Every plugins/ffoadapt-* is installed, typed and tested; plugins/_template is not.
PLUGIN_MANIFESTS := $(wildcard plugins/ffoadapt-*/pyproject.toml)
PLUGINS := $(PLUGIN_MANIFESTS:/pyproject.toml=)
PLUGIN_PACKAGES := $(patsubst %/__init__.py,%,$(wildcard plugins/ffoadapt-*/src/*/__init__.py))

# What the demo needs where nothing is set up: two frameworks, and five solvers of different kinds.
DEMO_PLUGINS := $(addprefix plugins/ffoadapt-,torch jax cvxpy clarabel daqp osqp piqp scs)

# What the install compiles.
COMPILED := hatch_build.py $(wildcard ffoadapt/_kernel/c/*)

# What runs once more without it.
WITHOUT_KERNEL := $(patsubst %,tests/test_%.py,kernel claims oracle batching solver_batches)

# Also for the isolated environments that pip builds packages in, whichever name it reads.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## create .venv and install everything (once)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; try make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "==> creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(STAMP): pyproject.toml constraints.txt requirements-dev.txt $(PLUGIN_MANIFESTS) $(COMPILED) | $(BIN)/python
	@echo "==> installing ffoadapt, $(words $(PLUGINS)) plugins and the tools (minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
		-r requirements-dev.txt -e '.[cli,threads]' $(addprefix -e ./,$(PLUGINS))
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --only-binary :all: 'mlx[cpu]' 2>/dev/null \
		|| echo "    no MLX for this machine: its tests are skipped"
	@test ! -e $(DEMO_STAMP) || $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true  # as the demo does not
	@touch $@

# An environment for each package to be built in, and bytecode of all that torch, JAX and their like
# never import, take longer than the rest.
$(DEMO_STAMP): pyproject.toml constraints.txt $(DEMO_PLUGINS:=/pyproject.toml) $(COMPILED) | $(BIN)/python
	@echo "==> installing ffoadapt and what the demo needs (make setup installs everything)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check hatchling setuptools editables
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --no-build-isolation \
		matplotlib skfolio -e '.[cli,threads]' $(addprefix -e ./,$(DEMO_PLUGINS))
	@touch $@

demo: $(if $(wildcard $(STAMP)),$(STAMP),$(DEMO_STAMP))  ## run the portfolio example
	@echo "==> python examples/portfolio.py"
	@$(BIN)/python examples/portfolio.py

test: lint types docs  ## lint, types, docs and all tests
	@echo "==> pytest, in one process a core"
	@$(BIN)/python -m pytest -n auto
	@echo "==> pytest, the core without its compiled code"
	@FFOADAPT_NO_KERNEL=1 $(BIN)/python -m pytest -q -n auto $(WITHOUT_KERNEL)

sanitize: $(STAMP)  ## fuzz and test the compiled code, built with gcc's sanitizers
	@echo "==> python tools/sanitize.py"
	@$(BIN)/python tools/sanitize.py

lint: $(STAMP)  ## ruff: rules and format
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy, strict, on the core and the plugins
	@echo "==> mypy"
	@$(BIN)/mypy ffoadapt $(PLUGIN_PACKAGES)

docs: $(STAMP)  ## build the documentation into site/; a warning fails it
	@echo "==> mkdocs"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheels:  ## build and check the wheels of everything, and try them in a fresh environment
	@echo "==> python tools/wheels.py"
	@$(PYTHON) tools/wheels.py

oldest:  ## the tests with the oldest versions that are allowed
	@echo "==> python tools/oldest.py"
	@PIP_CONSTRAINT= $(PYTHON) tools/oldest.py

bench: $(STAMP)  ## all benchmarks
	@echo "==> python benchmarks/run.py"
	@$(BIN)/python benchmarks/run.py

bench-quick: $(STAMP)  ## the benchmarks in small
	@echo "==> python benchmarks/run.py --quick"
	@$(BIN)/python benchmarks/run.py --quick

clean:  ## remove what the tools left behind (the environment stays: rm -rf .venv)
	@echo "==> removing build output and caches"
	@rm -rf build dist site plugins/*/build plugins/*/dist
	@rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage
	@find . -path ./$(VENV) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
