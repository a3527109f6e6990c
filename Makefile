# SPDX-License-Identifier: Apache-2.0
# Every target does its own set-up. Start with `make quickstart`.

VENV ?= .venv
PYTHON := $(VENV)/bin/python
PYTEST_ARGS ?=

.PHONY: help quickstart test-tools test coverage mutants guest test-guest fixtures power-cuts crash-cuts fuzz \
	lvm-sessions guest-shell lint types check protos lock dist docs benchmarks benchmarks-guest clean

help:
	@echo "make quickstart   set up, then unpack an image into a thin pool and show copy-on-write"
	@echo "make test         set up (system packages too, as root), then run the tests"
	@echo "make coverage     the same, and report the coverage"
	@echo "make mutants      make small mistakes where one loses data, and see whether the tests notice (hours)"
	@echo "make test-guest   run the tests that need a real kernel, in a guest"
	@echo "make fixtures     make tests/fixtures again in that guest, into build/fixtures"
	@echo "make power-cuts   kill such a guest while it works, and check what is left (LAMELLA_ROUNDS=2)"
	@echo "make lvm-sessions run random sessions by LVM2 and by Lamella, and list what differs (SEEDS=0-99)"
	@echo "make fuzz         try changed inputs on every parser (LAMELLA_ROUNDS=10000 for each; FUZZ names some)"
	@echo "make crash-cuts   cut the user engine's writes off after each one (LAMELLA_ROUNDS=1)"
	@echo "make guest-shell  a prompt in that guest"
	@echo "make check        lint, types, layers, unused code"
	@echo "make docs         build the documentation site"
	@echo "make dist         build and check the source distribution and the wheel"
	@echo "make protos       make the modules for containerd's service again from their .proto files"
	@echo "make lock         write requirements/*.txt again (needs uv)"
	@echo "make benchmarks   run each benchmark beside the program it replaces"
	@echo "make benchmarks-guest  those that need a real kernel, beside Docker and containerd"

$(VENV)/.lamella: pyproject.toml requirements/run.txt requirements/build.txt scripts/make-venv.sh
	@sh scripts/system-packages.sh run
	@sh scripts/make-venv.sh $(VENV)
	@touch $@

$(VENV)/.dev: pyproject.toml requirements/dev.txt requirements/build.txt scripts/make-venv.sh
	@sh scripts/system-packages.sh run
	@sh scripts/make-venv.sh $(VENV) dev
	@touch $@ $(VENV)/.lamella

quickstart: $(VENV)/.lamella
	@$(VENV)/bin/lamella quickstart

test-tools: $(VENV)/.dev
	@sh scripts/system-packages.sh test
	@$(PYTHON) -m scripts.guest probe || sh scripts/system-packages.sh qemu || true
	@$(PYTHON) -m scripts.docker_stores || echo "Tests that read stores made by Docker will skip." >&2

test: test-tools
	$(PYTHON) -m pytest -n 2 -m "not guest" --durations=15 $(PYTEST_ARGS)

# COVER names what is measured, PYTEST_ARGS the tests. From Python 3.12 on sys.monitoring is used, as the C
# tracer costs much more.
COVER ?= lamella
coverage: test-tools
	@mkdir -p build
	COVERAGE_CORE=$$($(PYTHON) -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
		$(PYTHON) -m pytest -n 2 -m "not guest" $(COVER:%=--cov=%) --cov-report=term --cov-report=xml:build/coverage.xml \
		$(PYTEST_ARGS)

mutants:
	@sh scripts/system-packages.sh run
	@sh scripts/make-venv.sh $(VENV)-mutation mutation
	@sh scripts/system-packages.sh test
	$(VENV)-mutation/bin/python -m scripts.lost_flushes
	$(VENV)-mutation/bin/python -m scripts.mutants

guest: $(VENV)/.dev
	@sh scripts/system-packages.sh guest
	@$(PYTHON) -m scripts.guest probe || sh scripts/system-packages.sh qemu

# Each test has a time limit of its own; this one is for a guest that hangs.
test-guest: guest
	$(PYTHON) -m scripts.conformance
	$(PYTHON) -m scripts.guest run tests/guest/run.sh --timeout 20000 \
		--each lvm store-rest store-direct store-loop kernel
	$(PYTHON) -m scripts.guest run tests/guest/run.sh --root current --timeout 20000 --each docker

fixtures: guest
	$(PYTHON) -m scripts.fixtures

power-cuts: $(VENV)/.dev
	@sh scripts/system-packages.sh guest
	@sh scripts/system-packages.sh qemu
	$(PYTHON) -m scripts.power_cuts

# As root: both work on loop devices.
SEEDS ?= 0-99
lvm-sessions: $(VENV)/.dev
	@sh scripts/system-packages.sh test
	$(PYTHON) -m tests.lvm.differential --seeds $(SEEDS)

FUZZ ?=
fuzz: test-tools
	$(PYTHON) -m scripts.fuzz $(FUZZ)

crash-cuts: test-tools
	$(PYTHON) -m scripts.crash_cuts

guest-shell: guest
	@$(PYTHON) -m scripts.guest shell

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/vulture

types: $(VENV)/.dev
	$(VENV)/bin/mypy

check: lint types

benchmarks: $(VENV)/.dev
	@sh scripts/system-packages.sh test
	@for file in $(filter-out benchmarks/guest_%,$(wildcard benchmarks/*.py)); do \
		echo "== $$file"; $(PYTHON) $$file || exit 1; done

benchmarks-guest: guest
	@sh scripts/system-packages.sh test
	$(PYTHON) -m benchmarks.guest_boot

# Autodoc imports Lamella, so this environment has Lamella's dependencies too. Any warning is an error.
docs:
	@sh scripts/system-packages.sh run
	@sh scripts/make-venv.sh $(VENV)-docs docs
	$(VENV)-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

protos:
	@sh scripts/make-venv.sh $(VENV)-protos protos
	@sh scripts/protos.sh $(VENV)-protos

lock:
	sh scripts/lock.sh

# Built in an environment of its own, so that releases do not depend on the tests' requirements.
dist:
	@sh scripts/make-venv.sh $(VENV)-release release
	rm -rf dist
	$(VENV)-release/bin/python -m build --no-isolation
	$(VENV)-release/bin/twine check --strict dist/*

clean:
	rm -rf $(VENV) $(VENV)-docs $(VENV)-mutation $(VENV)-protos $(VENV)-release build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
