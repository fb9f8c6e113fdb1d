# Shore. `make demo` and `make test` need nothing set up beforehand; `make help` lists the rest.

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
RUST := $(shell find crates -name '*.rs' -not -path '*/target/*') Cargo.toml Cargo.lock $(wildcard crates/*/Cargo.toml)
export SHORE_PEERS ?= $(HOME)/.cache/shore/peers

.PHONY: help setup native demo demo-long test unit core lab bench lint check fuzz regress format

help:               ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: native       ## make a ready environment in .venv: dependencies, native module, `shore` command

$(VENV)/.dependencies: pyproject.toml uv.lock scripts/setup
	@scripts/setup

$(VENV)/.native: $(VENV)/.dependencies $(RUST)
	@echo "building the data plane (release; a first build takes some minutes)"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" VIRTUAL_ENV=$(CURDIR)/$(VENV) maturin develop --quiet --release --locked --uv
	@touch $@

native: $(VENV)/.native

demo: native        ## bring up a tunnel, break it in every way, compare with boringtun-cli
	@scripts/peers boringtun-cli
	@scripts/with-rights $(PY) -m shore.lab.demo

demo-long: native   ## the same with the long outage behind a NAT
	@scripts/peers boringtun-cli
	@scripts/with-rights $(PY) -m shore.lab.demo --long

test: core unit regress ## run all tests that need no peer built from source
	@scripts/with-rights $(PY) -m pytest -q -m "lab and not slow" tests

core: $(VENV)/.dependencies
	cargo test --workspace --quiet

unit: native
	$(PY) -m pytest -q -m "not lab and not slow" tests

regress: $(VENV)/.dependencies ## BoringTun's defects on a mock clock, and that our adapter cures them
	cargo test --quiet --manifest-path crates/session-regress/Cargo.toml --target-dir target/session-regress

lab: native         ## every test, hours of network laboratory included
	@scripts/peers
	@scripts/with-rights $(PY) -m pytest -q tests

bench: native       ## measure against the real peers; writes bench/results
	@scripts/peers
	@$(PY) -m bench

lint: native        ## what machines can say about style and layers
	$(VENV)/bin/ruff check src tests bench
	$(VENV)/bin/ruff format --check src tests bench
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	MYPYPATH=src $(PY) -m mypy.stubtest shore._native
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

check: test lint    ## what CI runs

format:             ## rewrite the sources in the house format
	$(VENV)/bin/ruff format src tests bench
	$(VENV)/bin/ruff check --fix src tests bench
	cargo fmt
