# The only set-up this project needs: `make demo`, `make test`. Everything is made below .venv, .venv-peers and build.

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
SOURCES := $(wildcard src/indifast/*.pyx src/indifast/*.pxd src/indifast/csrc/*.h src/indifast/front/*) \
    src/indifast/cli/serve_options.py src/indifast/transport/sockets.py
PYTEST_ARGS ?=
DEMO_ARGS ?=

.PHONY: demo test bench performance bench-peers peers lint sanitize pictures build clean

demo: build
	$(BIN)/indifast demo $(DEMO_ARGS)

test: build peers
	INDIFAST_PEERS="$(CURDIR)/$(PEERS)" $(BIN)/python -m pytest $(PYTEST_ARGS)

bench: build
	$(BIN)/python -m pytest --benchmark $(PYTEST_ARGS)

# Everything beside the peers, about half an hour on a quiet machine, then docs/performance.md from what was measured.
performance: build peers
	INDIFAST_EXTENSIONS=later $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-build-isolation --editable ".[bench]"
	$(BIN)/python -m benchmarks.everything --results benchmarks/results
	$(BIN)/python -m benchmarks.page

# The programs indifast is measured against and talks to in its tests, each in an environment of its own.
peers bench-peers: $(PEERS)/d31/.done $(PEERS)/d22/.done $(PEERS)/d12/.done $(PEERS)/term/.done $(PEERS)/web/.done

lint: build
	$(BIN)/ruff check .
	$(BIN)/mypy

# The pictures of the terminal client in README.md and docs: the real program in front of real drivers.
pictures: build
	$(BIN)/python docs/pictures/make.py

# The extensions built with AddressSanitizer and UndefinedBehaviorSanitizer, beside the normal build. Leaks are not
# looked for: CPython keeps memory at exit.
SANITIZED := build/sanitize
sanitize: build
	INDIFAST_SANITIZE=address,undefined $(BIN)/python setup.py --quiet build \
	    --build-base build/sanitize-tmp --build-lib $(SANITIZED) build_ext --parallel 2
	PYTHON="$(CURDIR)/$(BIN)/python" .ci/sanitized "$(CURDIR)/$(SANITIZED)" \
	    -m pytest -p no:cacheprovider tests/parser tests/codec $(PYTEST_ARGS)

build: $(VENV)/.built

$(VENV)/.packages: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "indifast needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "setuptools>=77" "Cython>=3.0" wheel
	INDIFAST_EXTENSIONS=later $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-build-isolation --editable ".[test,lint]"
	touch $@

$(VENV)/.built: $(VENV)/.packages setup.py $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2 build_scripts --build-dir $(BIN)
	touch $@

$(PEERS)/d31/.done: PACKAGES = indipydriver==3.1.2 indipyserver==0.0.6 indipyclient==0.9.4 numpy
$(PEERS)/d22/.done: PACKAGES = indipydriver==2.2.0
$(PEERS)/d12/.done: PACKAGES = indipydriver==1.2.2
$(PEERS)/term/.done: PACKAGES = indipyterm==0.1.8
$(PEERS)/web/.done: PACKAGES = indipyweb==0.2.1
$(PEERS)/%/.done: | $(VENV)/.packages
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(BIN)/python -m pip --python $(@D)/bin/python install --quiet --disable-pip-version-check $(PACKAGES)
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist src/*.egg-info src/indifast/*.so src/indifast/*.c
