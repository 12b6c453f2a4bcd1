# `make` lists what there is. Everything runs on this machine alone; no container engine is needed.
.DEFAULT_GOAL := help
.PHONY: help demo up down test faults bench check

# The build of the Kafka client cannot stand a space in its path.
ifneq ($(words $(CURDIR)),1)
export CARGO_TARGET_DIR ?= /var/tmp/analytics-target-$(shell id -u)-$(shell printf '%s' '$(CURDIR)' | cksum | cut -d ' ' -f 1)
endif

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## real servers, both processes, live numbers; Ctrl-C stops everything (RELEASE=1: release build)
	@dev/demo

up: ## the stack and both processes in the background
	@dev/service up

down: ## stop them; the data stay
	@dev/service down

test: ## everything, with real servers; what CI runs
	@dev/test

faults: ## what the world does to it, by the hour: FAULTS='--seed 7 killed' chooses; dev/faults --list
	@dev/faults $(FAULTS)

bench: ## how fast it is, as ratios to PostgreSQL itself: BENCH='ingest --repeats 1' chooses; dev/bench --help
	@dev/bench $(BENCH)

check: ## quick: format, lints, unit tests, documentation
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib --features ingest-worker/fail-points
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --lib
