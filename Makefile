# Shore. `make test` needs nothing set up beforehand; `make help` lists the rest.

SHELL := /bin/bash
# Debian keeps `ip`, `nft` and `conntrack` where only root looks.
export PATH := $(PATH):/usr/sbin:/sbin
VENV := .venv
PY := $(VENV)/bin/python
RUST := $(shell find crates -name '*.rs' -not -path '*/target/*') Cargo.toml Cargo.lock $(wildcard crates/*/Cargo.toml)

.PHONY: help setup native demo demo-long test unit core lab-subset lab regress bench lint check format

help:               ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: native       ## make a ready environment in .venv: dependencies, native module, `shore` command

$(VENV)/.dependencies: pyproject.toml uv.lock scripts/setup
	@scripts/setup

$(VENV)/.native: $(VENV)/.dependencies $(RUST)
	@echo "building the data plane (release; a first build takes some minutes)"
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" VIRTUAL_ENV=$(CURDIR)/$(VENV) maturin develop --quiet --release --locked --uv
	@touch $@

# A process that starts while packets wait for it should not compile what it is made of.
$(VENV)/.bytecode: $(VENV)/.native $(shell find src -name '*.py')
	@$(PY) -m compileall -q src
	@touch $@

native: $(VENV)/.bytecode

demo: native        ## two hosts, one tunnel, and what Shore does about each fault
	@scripts/peers boringtun-cli
	@scripts/with-rights $(PY) -m shore.lab.demo

demo-long: native   ## the same with an outage of 5 minutes behind a NAT
	@scripts/peers boringtun-cli
	@scripts/with-rights $(PY) -m shore.lab.demo --long

test: core regress unit lab-subset  ## set everything up and run all tests

core: $(VENV)/.dependencies
	cargo test --workspace --quiet

unit: native
	$(PY) -m pytest -q -n auto -m "not lab and not slow" tests

LAB_SUBSET := scripts/with-rights $(PY) -m pytest -q -rs -n 2 -m "lab and not slow" tests/lab

lab-subset: native
	$(LAB_SUBSET) || { echo "once more, only what failed, one by one: it times real processes on a shared machine"; $(LAB_SUBSET) --last-failed -n 0; }

lab: native         ## everything that needs namespaces, and 50,000 simulated runs; takes long
	@scripts/peers
	scripts/with-rights env SHORE_LAB=required $(PY) -m pytest -q -rs tests/lab
	$(PY) -m pytest -q -s -m slow tests/sim

regress:            ## BoringTun's defects on a mock clock, and their cures
	cd crates/session-regress && cargo test --quiet --locked

bench: native       ## measure against real peers on an idle machine; results go to bench/results
	@scripts/peers
	scripts/with-rights $(PY) -m bench

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
