# One word for each thing done here. CI runs `lint`, `test` and `docs` (.ci/run).
#
#   make test CARGO_TEST_FLAGS="--test message" TEST_ARGS="vectors --nocapture"

CARGO ?= cargo
PYTHON ?= python3
# To every cargo command that builds, e.g. CARGO_FLAGS="--offline".
CARGO_FLAGS ?=
CARGO_TEST_FLAGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
RUN_ARGS ?= dev
# What `flame` draws: a case of benches/peers/cases.py.
CASE ?= put-4k
# What `image` is called.
IMAGE ?= sealward

CARGO_CYCLONEDX_VERSION := 0.5.9
CARGO_DEB_VERSION := 3.8.0
CARGO_DENY_VERSION := 0.20.2
MDBOOK_VERSION := 0.5.4
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS := $(TARGET_DIR)/tools
# The one on PATH will do at any version; otherwise ours, at the pinned one.
CYCLONEDX := $(or $(shell command -v cargo-cyclonedx 2>/dev/null),$(TOOLS)/bin/cargo-cyclonedx)
DEB := $(or $(shell command -v cargo-deb 2>/dev/null),$(TOOLS)/bin/cargo-deb)
DENY := $(or $(shell command -v cargo-deny 2>/dev/null),$(TOOLS)/bin/cargo-deny)
MDBOOK := $(or $(shell command -v mdbook 2>/dev/null),$(TOOLS)/bin/mdbook)

SHELL_SCRIPTS := .ci/run $(shell find certs config tests docker -name '*.sh' 2>/dev/null)
PYTHON_SCRIPTS := $(shell find tests benches docker -name '*.py' 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: run test test-conformance peers lint fmt clippy deny scripts bench bench-catalog bench-growth bench-peers \
	bench-proxy flame soak audit docs book dist image clean help toolchain

# What a build can't do without, named before it fails for the lack of it.
toolchain:
	@command -v $(firstword $(CARGO)) >/dev/null || { echo "make: $(firstword $(CARGO)) is not on PATH: install Rust" \
		"$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later (rustup, or the distribution's)" >&2; exit 1; }
	@command -v $(or $(firstword $(CC)),cc) >/dev/null || { echo "make: there is no C compiler on PATH, which AWS-LC needs:" \
		"install gcc or clang (Debian: build-essential), or set CC" >&2; exit 1; }

run: toolchain ## build and run `sealward dev`, unoptimised (RUN_ARGS)
	$(CARGO) run --locked $(CARGO_FLAGS) -- $(RUN_ARGS)

# Most tests wait for something rather than compute: four at once on the smallest machine.
test: export RUST_TEST_THREADS ?= $(shell cores=$$(nproc 2>/dev/null || echo 1); echo $$((cores < 4 ? 4 : cores)))
test: toolchain peers $(CYCLONEDX) $(DEB) $(MDBOOK) ## every test (CARGO_TEST_FLAGS, TEST_ARGS)
	$(CARGO) test --locked --no-fail-fast $(CARGO_FLAGS) $(CARGO_TEST_FLAGS) -- $(TEST_ARGS)

test-conformance: toolchain ## sslyze and others at the real binary's TLS; holds docs/tls.md to it
	PYTHON="$(PYTHON)" tests/peers/setup.sh conformance
	$(CARGO) build --locked $(CARGO_FLAGS)
	"$(TARGET_DIR)/peers/tls/bin/python" tests/conformance/tls.py "$(TARGET_DIR)/debug/sealward"

peers: ## the official SDK and command line, below target/peers
	PYTHON="$(PYTHON)" tests/peers/setup.sh

lint: fmt clippy deny scripts ## formatting, clippy, dependencies, scripts

fmt: toolchain
	$(CARGO) fmt --check

clippy: toolchain
	$(CARGO) clippy --locked $(CARGO_FLAGS) --all-targets -- -D warnings

deny: $(DENY)
	$(DENY) --locked check bans licenses sources

scripts:
	@for script in $(SHELL_SCRIPTS); do echo "bash -n $$script"; bash -n "$$script" || exit 1; done
	@# Compiled to a place of its own: no __pycache__ beside the sources.
	PYTHONPYCACHEPREFIX="$(TARGET_DIR)/pycache" $(PYTHON) -m py_compile $(PYTHON_SCRIPTS)

bench: toolchain ## benchmarks (BENCH_ARGS)
	$(CARGO) bench --locked $(CARGO_FLAGS) $(BENCH_ARGS)

# ROUNDS, CASES, PROXIES and more: the head of benches/peers/proxy.py. Needs nginx, haproxy and wrk.
bench-proxy: toolchain ## as a proxy beside nginx and haproxy, about 5 minutes; writes target/bench-proxy.json
	$(CARGO) build --release --locked $(CARGO_FLAGS)
	$(PYTHON) benches/peers/proxy.py "$(TARGET_DIR)/release/sealward" "$(TARGET_DIR)/bench-proxy.json"

# What is measured before the sink: a script of benches/peers, and its last arguments. The sink is built and seen to be,
# then asked for by the path that cargo gives it.
define before_the_sink
PYTHON="$(PYTHON)" tests/peers/setup.sh bench
$(CARGO) build --release --locked $(CARGO_FLAGS)
$(CARGO) bench --no-run --locked $(CARGO_FLAGS) --bench sink
sink="$$($(CARGO) bench --no-run --locked $(CARGO_FLAGS) --bench sink --message-format=json 2>/dev/null | \
	sed -n 's|.*"executable":"\([^"]*/sink-[^"]*\)".*|\1|p')"; \
$(PYTHON) benches/peers/$(1) "$(TARGET_DIR)/release/sealward" "$$sink" "$(TARGET_DIR)/peers/bench" $(2)
endef

# PEERS, CASES, ROUNDS and more: the head of benches/peers/peers.py.
bench-peers: toolchain ## beside nginx, haproxy, envoy, caddy and rclone before an S3; writes target/bench-peers.json
	$(call before_the_sink,peers.py,"$(TARGET_DIR)/bench-peers.json")

# CASES, ROUNDS and more: the head of benches/peers/growth.py.
bench-growth: toolchain ## cost by uploads at once and by objects' size, beside nginx, half an hour; writes target/bench-growth.json
	$(call before_the_sink,growth.py,"$(TARGET_DIR)/bench-growth.json")

# SECONDS, STACKS and more: the head of benches/peers/flame.py. Needs perf, and root's leave to look.
flame: toolchain ## where processor time goes in a case of bench-peers (CASE); writes target/flame-CASE.svg
	$(call before_the_sink,flame.py,"$(CASE)" "$(TARGET_DIR)/flame-$(CASE).svg")

# MINUTES, CATALOGUE: the head of benches/soak/soak.py.
soak: toolchain peers ## five minutes of mixed load (MINUTES): memory's slope, what leaks, what fails; writes target/soak.json
	$(call before_the_sink,../soak/soak.py,"$(TARGET_DIR)/soak.json")

# ROUNDS, SECONDS and more: the head of benches/catalog/uploads.py. Needs PostgreSQL and MariaDB.
bench-catalog: toolchain ## what a catalogue adds to uploads, and the records it takes, about 5 minutes
	$(CARGO) build --release --locked $(CARGO_FLAGS)
	@# Who runs it for the figures sees all of them, also where a goal is missed.
	@status=0; \
	$(PYTHON) benches/catalog/uploads.py "$(TARGET_DIR)/release/sealward" "$(TARGET_DIR)/bench-catalog.json" || status=1; \
	$(CARGO) bench --locked $(CARGO_FLAGS) --bench catalog || status=1; \
	exit $$status

audit: $(DENY) ## known faults of dependencies; needs the advisory database in reach
	$(DENY) --locked check advisories

docs: toolchain ## the documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --locked $(CARGO_FLAGS)

book: $(MDBOOK) ## the book: docs/ as HTML, in target/book
	$(MDBOOK) build

dist: toolchain $(CYCLONEDX) $(DEB) ## what a release consists of: archive, Debian package, SBOM, checksums, in target/dist
	$(CARGO) build --release --locked $(CARGO_FLAGS)
	CARGO_CYCLONEDX="$(CYCLONEDX)" CARGO_DEB="$(DEB)" config/dist.sh "$(TARGET_DIR)/release/sealward" "$(TARGET_DIR)/dist"

image: toolchain ## the container image out of a program that is built here, by buildah (IMAGE)
	$(CARGO) build --release --locked $(CARGO_FLAGS)
	docker/rootfs.sh "$(TARGET_DIR)/release/sealward" "$(TARGET_DIR)/image"
	buildah bud --format docker --build-context build="$(TARGET_DIR)/image" -f docker/Dockerfile -t "$(IMAGE)" "$(TARGET_DIR)/image"

clean: ## all that was built
	$(CARGO) clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | \
		sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 25

# A tool that cargo builds: its name, its version, and what of it is left out.
define tool
$(CARGO) install --locked --version $(2) --root "$(TOOLS)" --target-dir "$(TOOLS)/build-$(1)" $(3) $(1)
rm -rf "$(TOOLS)/build-$(1)"
endef

# A minute each on two cores, once: they run for seconds, and needn't be fast.
$(TOOLS)/bin/cargo-cyclonedx:
	$(call tool,cargo-cyclonedx,$(CARGO_CYCLONEDX_VERSION),--debug)

$(TOOLS)/bin/cargo-deb:
	$(call tool,cargo-deb,$(CARGO_DEB_VERSION),--debug --no-default-features)

# About six minutes.
$(TOOLS)/bin/cargo-deny:
	$(call tool,cargo-deny,$(CARGO_DENY_VERSION))

$(TOOLS)/bin/mdbook:
	$(call tool,mdbook,$(MDBOOK_VERSION),--debug --no-default-features)
