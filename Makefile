# SPDX-License-Identifier: Apache-2.0
# Every target does its own set-up. Start with `make quickstart`.

VENV ?= .venv
PYTHON := $(VENV)/bin/python
PYTEST_ARGS ?=

.PHONY: help quickstart test guest test-guest fixtures power-cuts guest-shell lint types check benchmarks \
	benchmarks-guest clean

help:
	@echo "make quickstart   set up, then unpack an image into a thin pool and show copy-on-write"
	@echo "make test         set up (system packages too, as root), then run the tests"
	@echo "make test-guest   run the tests that want a real kernel, in a guest made for them"
	@echo "make fixtures     make tests/fixtures anew in that guest, into build/fixtures"
	@echo "make power-cuts   kill such a guest at work, and look what is left (LAMELLA_ROUNDS=2)"
	@echo "make guest-shell  a prompt in that guest"
	@echo "make check        lint, types, layering"
	@echo "make benchmarks   run each benchmark beside its peer"
	@echo "make benchmarks-guest  those that want a real kernel, beside Docker and containerd"

$(VENV)/.lamella: pyproject.toml scripts/make-venv.sh
	@sh scripts/system-packages.sh run
	@sh scripts/make-venv.sh $(VENV)
	@touch $@

$(VENV)/.dev: pyproject.toml scripts/make-venv.sh
	@sh scripts/system-packages.sh run
	@sh scripts/make-venv.sh $(VENV) dev
	@touch $@ $(VENV)/.lamella

quickstart: $(VENV)/.lamella
	@$(VENV)/bin/lamella quickstart

test: $(VENV)/.dev
	@sh scripts/system-packages.sh test
	@$(PYTHON) -m scripts.guest probe || sh scripts/system-packages.sh qemu || true
	@$(PYTHON) -m scripts.docker_stores || echo "Tests that read stores made by Docker will skip." >&2
	$(PYTHON) -m pytest -n 2 -m "not guest" --durations=15 $(PYTEST_ARGS)

guest: $(VENV)/.dev
	@sh scripts/system-packages.sh guest
	@$(PYTHON) -m scripts.guest probe || sh scripts/system-packages.sh qemu

# Each test has a limit of its own; this one is for a guest that has hung itself.
test-guest: guest
	$(PYTHON) -m scripts.guest run tests/guest/run.sh --timeout 20000 \
		--each store-rest store-direct store-loop kernel lvm

fixtures: guest
	$(PYTHON) -m scripts.fixtures

power-cuts: $(VENV)/.dev
	@sh scripts/system-packages.sh guest
	@sh scripts/system-packages.sh qemu
	$(PYTHON) -m scripts.power_cuts

guest-shell: guest
	@$(PYTHON) -m scripts.guest shell

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

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

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info
