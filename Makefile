# Every target does all its own set-up: python3 (3.11 or newer) with venv, and make, are enough.
#
#   make run     the cluster on this machine: a backplane, three nodes, a balancer in front
#   make test    most of the suite               make test-all   all of it: attacks, faults, brokers
#   make unit    the fast, pure part             make check      format, lint, types, imports, migrations, dependencies
#   make bench   the published numbers           make bench-quick
#   make wheel   the distributions, in dist/: what other projects install
#   make soak    three nodes under everything that goes wrong, for SOAK_SECONDS (300)
#
# Variables of `make run`: BACKPLANE (redis, rabbitmq, kafka or memory), BALANCER (nginx or haproxy), PORT (8080),
# INTERNAL_PORT (8090), NODE_PORT (8081, the first), NODES (3), RUN_DIR (var/run).
# Variables of the tests: TESTS (what to run), PYTEST_ARGS, WORKERS (2); of `make soak`: SOAK_SECONDS, PYTEST_ARGS.

SHELL := /bin/sh
SYSTEM_PYTHON ?= python3
VENV ?= .venv
PYTHON := $(VENV)/bin/python
TESTS ?= tests
SOAK_SECONDS ?= 300
WORKERS ?= 2
PYTEST := $(PYTHON) -W error::SyntaxWarning -m pytest
SUITE := $(PYTHON) -m devtools.suite --workers $(WORKERS)

.DEFAULT_GOAL := help
.PHONY: help environment test-packages bench-packages run test test-all soak unit check format wheel bench bench-quick clean

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

# The virtual environment with requirements-dev.txt; does nothing when those are in it already.
environment:
	@$(SYSTEM_PYTHON) devtools/environment.py $(VENV) requirements-dev.txt

# The programs that are started. Installed as root on Debian; elsewhere the missing ones are named.
test-packages:
	@$(SYSTEM_PYTHON) devtools/packages.py tests

bench-packages:
	@$(SYSTEM_PYTHON) devtools/packages.py benchmarks

run: environment
	@exec $(PYTHON) -m devtools.run --end-with-parent

test: environment test-packages
	$(SUITE) -m "not slow" $(PYTEST_ARGS) $(TESTS)

test-all: environment test-packages
	$(SUITE) $(PYTEST_ARGS) $(TESTS)

soak: environment test-packages
	SOAK_SECONDS=$(SOAK_SECONDS) $(PYTEST) -s -o faulthandler_timeout=0 $(PYTEST_ARGS) tests/acceptance/soak

unit: environment
	$(PYTEST) $(PYTEST_ARGS) tests/unit

check: environment
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py check --fail-level WARNING
	$(PYTHON) -m devtools.audit

format: environment
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

wheel: environment
	rm -rf dist *.egg-info
	$(PYTHON) -m build --no-isolation
	$(VENV)/bin/twine check --strict dist/*

bench: environment bench-packages
	$(PYTHON) -m benchmarks $(BENCH_ARGS)
	$(PYTHON) -m benchmarks.backplanes

bench-quick: environment bench-packages
	$(PYTHON) -m benchmarks --quick $(BENCH_ARGS)

clean:
	rm -rf $(VENV) var staticfiles dist *.egg-info benchmarks/build benchmarks/.venv benchmarks/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
