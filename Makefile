# Two commands: `make run` sets everything up and starts Portcullis on this machine; `make test` sets everything up and runs every test.
# Both do only what is missing, and can be run again at any time.

SHELL := /bin/bash
# For a shell in which rustup's folder is not on the path yet.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Options of `portcullis demo`, such as DEMO="--listen 127.0.0.1:9443".
DEMO ?=
# Options of the measurement, such as BENCH="--quick --only acg".
BENCH ?=
# Seconds and targets of fuzzing.
FUZZ ?=

.PHONY: help run test test-fast setup lint dist bench soak fuzz interop-long apps-long

help: ## Says what can be made.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## Sets up what is missing, builds, and starts the demo.
	@.ci/setup run
	@cargo build --release
	@exec $(TARGET)/release/portcullis demo $(DEMO)

test: ## Sets up what is missing, and runs every check and every test.
	@.ci/setup test
	@.ci/test

test-fast: ## Runs the unit tests, and those of codecs, use cases and conventions on SQLite; a few minutes at most. `.ci/rust-tests NAME` runs tests by name.
	@.ci/setup test
	@.ci/rust-tests --fast

setup: ## Sets up what is missing for both.
	@.ci/setup test

interop-long: ## Runs what takes long against wireguard-go: a GiB each way, and the renewal of keys after two minutes.
	@.ci/setup test
	@cargo test --features full --test portcullis -- interop::long --ignored --nocapture --test-threads 1

apps-long: ## Passes 10 GiB each way through the reverse proxy of web applications.
	@.ci/setup test
	@cargo test --features full --test portcullis -- viewer::html5::bulk --ignored --nocapture --test-threads 1

dist: ## Builds what is shipped: optimised across crates, with every feature. Takes long.
	@.ci/setup run
	@cargo build --profile dist --features full

bench: ## Measures the data path and other programs beside it, some ten minutes; writes the table of docs/performance.md.
	@cargo bench --profile dist --features full --bench path -- --write docs/performance.md $(BENCH)

soak: ## Opens and closes a million sessions, about an hour; fails when anything is left behind.
	@cargo test --release --quiet --test portcullis -- --ignored --exact tunnel::soak::a_million_sessions_leave_nothing_behind

fuzz: ## Fuzzes codecs, filters, TCP inside tunnels and the initiation gate by coverage, a minute each; FUZZ="600 rdp_filter" is one of them, longer.
	@tests/fuzz/run $(FUZZ)

lint: ## Checks format and lints.
	@cargo fmt --check
	@cargo clippy --all-targets --features full --quiet -- -D warnings
