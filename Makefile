# corten's commands. `make help` lists them; everything lives in .venv, target/ and out/, all of them ignored by git.
#
#   make demo      builds what is needed and trains LeNet-5 on handwritten digits
#   make check     lint and all tests: exactly what CI runs (.ci/run)
#
# PYTHON=python3.12 picks the interpreter for .venv.   PROFILE=dist builds what a wheel holds.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV    ?= .venv
PROFILE ?= fast
PY      := $(VENV)/bin/python
export PATH := $(PATH):$(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Whatever the extension module is compiled from.
RUST_SOURCES := $(shell find rust -name target -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print 2>/dev/null) Cargo.toml Cargo.lock
DEPS_STAMP  := $(VENV)/.corten-deps
BUILD_STAMP := $(VENV)/.corten-build-$(PROFILE)

.PHONY: help demo build test test-rust test-python test-slow lint lint-rust lint-python format check mutation bench overhead wheel asan clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(BUILD_STAMP) ## train LeNet-5 on the built-in digits and draw what it learnt
	@$(PY) -m corten demo

build: $(BUILD_STAMP) ## .venv with the development tools and the extension module

# A virtual environment with the tools of the extra `dev`. The list is read from pyproject.toml, so that installing it
# does not build the extension module a second time.
$(DEPS_STAMP): pyproject.toml tools/preflight.sh tools/dev_requirements.py
	@python=$$(tools/preflight.sh --python) && \
	{ test -x $(PY) && $(PY) -m pip --version >/dev/null 2>&1 || { echo "creating $(VENV) with $$python"; $$python -m venv --clear $(VENV); }; }
	@echo "installing the development tools into $(VENV)"
	@$(PY) tools/dev_requirements.py > $(VENV)/requirements.txt
	@$(PY) -m pip install --quiet -r $(VENV)/requirements.txt
	@touch $@

# A build of one profile replaces the module of another, so the other stamps go.
$(BUILD_STAMP): $(DEPS_STAMP) $(RUST_SOURCES)
	@tools/preflight.sh
	@echo "building corten._core (profile $(PROFILE); the first build takes a few minutes)"
	@rm -f $(VENV)/.corten-build-*
	@VIRTUAL_ENV="$(abspath $(VENV))" PATH="$(abspath $(VENV))/bin:$$PATH" maturin develop --quiet --profile $(PROFILE)
	@touch $@

test: test-rust test-python ## cargo test, then pytest

test-rust: ## the kernels' and the core's tests
	@tools/preflight.sh
	cargo test --quiet

test-python: $(BUILD_STAMP) ## pytest, without the tests that take long
	$(PY) -m pytest -m "not slow"

test-slow: $(BUILD_STAMP) ## the tests that take long: hundreds of forks, kills, interrupts, wrong calls
	$(PY) -m pytest -m slow

# A build of its own, with a compiler flag that stable Rust has behind a switch; little optimisation and debug information, which would
# double its time and memory. The tests themselves run every path of vector instructions that the machine has.
ASAN_TARGET ?= x86_64-unknown-linux-gnu
asan: ## the Rust tests under AddressSanitizer (takes a while)
	@tools/preflight.sh
	RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address --cfg corten_exact" CARGO_PROFILE_TEST_DEBUG=line-tables-only CARGO_PROFILE_TEST_OPT_LEVEL=1 \
	ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1:$(ASAN_OPTIONS) PROPTEST_CASES=$(or $(PROPTEST_CASES),32) \
	cargo test --quiet --target $(ASAN_TARGET) --target-dir target/asan -p corten-kernels -p corten-backend -p corten-core --lib --tests

lint: lint-rust lint-python ## fmt, clippy, ruff, mypy, stubtest: warnings are errors

# PYO3_PYTHON: the seam is checked against the interpreter that it is built for, not whatever python3 is.
lint-rust: $(DEPS_STAMP)
	@tools/preflight.sh
	cargo fmt --all -- --check
	PYO3_PYTHON="$(abspath $(PY))" cargo clippy --quiet --workspace --all-targets -- -D warnings

lint-python: $(BUILD_STAMP)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m mypy.stubtest corten._core --allowlist tools/stubtest_allowlist.txt

format: $(DEPS_STAMP) ## rewrite the sources in the house format
	cargo fmt --all
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

check: lint test test-slow ## lint and all tests: what CI runs

mutation: $(BUILD_STAMP) ## plant some 200 errors in the gradient rules and count how many the tests find
	$(PY) tools/mutation/run.py

bench: ## cargo bench, then the seam's overhead
	cargo bench
	@$(MAKE) build PROFILE=dist
	$(PY) benches/overhead.py

overhead: wheel ## import time, wheel size, cost of one small operation
	@$(MAKE) build PROFILE=dist
	$(PY) benches/overhead.py --check

wheel: $(DEPS_STAMP) ## the wheel that is published, in dist/
	@tools/preflight.sh
	VIRTUAL_ENV="$(abspath $(VENV))" PATH="$(abspath $(VENV))/bin:$$PATH" maturin build --profile dist --out dist

clean: ## remove everything that was built
	rm -rf $(VENV) target dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f python/corten/_core*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
