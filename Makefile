# The only setup this project needs: `make demo`, `make test`. Everything is created in .venv, .venv-peers and build.

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
SOURCES := $(wildcard src/indifast/*.pyx src/indifast/*.pxd src/indifast/parser/*.pxi src/indifast/csrc/*.h src/indifast/front/*) \
    src/indifast/cli/serve/options.py src/indifast/transport/sockets.py
PYTEST_ARGS ?=
DEMO_ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Most tests wait most of the time, so run more of them at once than there are processors.
WORKERS ?= $(shell expr 4 '*' `getconf _NPROCESSORS_ONLN`)

# All packages are installed in the versions that requirements/ names; LOCKED=no installs the newest versions.
LOCKED ?= yes
ifeq ($(LOCKED),yes)
BUILD_PACKAGES := --require-hashes --requirement requirements/build.txt
TEST_PACKAGES := --require-hashes --requirement requirements/test.txt
DOCS_PACKAGES := --require-hashes --requirement requirements/docs.txt
else
BUILD_PACKAGES := --upgrade setuptools Cython numpy
TEST_PACKAGES := --upgrade --upgrade-strategy eager --no-build-isolation --editable ".[test,lint]"
DOCS_PACKAGES := --upgrade --upgrade-strategy eager --no-build-isolation --editable ".[docs]"
endif

.PHONY: demo docs test bench performance performance-links bench-peers peers lint sanitize tsan coverage fuzz simulation soak pictures build lock clean

demo: build
	$(BIN)/indifast demo $(DEMO_ARGS)

# The packages for the tests are installed while the extensions are compiled, unless pip might replace the compiler's.
test:
	$(MAKE) --jobs $(if $(filter yes,$(LOCKED)),3,1) build tools peers
	INDIFAST_PEERS="$(CURDIR)/$(PEERS)" $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

bench: build tools
	$(BIN)/python -m pytest --benchmark $(PYTEST_ARGS)

# Compares everything but links with the peers, half an hour on an idle machine, and updates docs/explanation/performance.md.
performance: build tools peers
	$(BIN)/python -m benchmarks.everything --runs 3 --seconds 2 --results benchmarks/results $(PERFORMANCE_ARGS)
	$(BIN)/python -m benchmarks.page

# The same for links with a rate and a delay, which takes 25 minutes, and root or namespaces for users.
performance-links: build tools peers
	$(BIN)/python -m benchmarks.links --runs 2 --results benchmarks/results $(PERFORMANCE_ARGS)
	$(BIN)/python -m benchmarks.page

# The programs that the benchmarks compare indifast with and that the tests connect to, each in a separate environment.
peers bench-peers: $(PEERS)/d31/.done $(PEERS)/d22/.done $(PEERS)/d12/.done $(PEERS)/term/.done $(PEERS)/web/.done

lint: build tools
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo --no-cache pyproject.toml .importlinter-external.toml
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --concise --allowlist tests/typing/stubtest-allowlist.txt --ignore-unused-allowlist \
	    indifast._base64 indifast._descriptors indifast._parser indifast._senders
	$(BIN)/basedpyright

# The documentation as a site, in build/docs: open build/docs/index.html. Every warning is an error.
docs: build $(VENV)/.docs
	$(BIN)/python -m sphinx --builder html --doctree-dir build/doctrees --jobs auto --write-all --quiet \
	    --fail-on-warning --keep-going docs build/docs

# The screenshots of the terminal client in README.md and docs, taken of the real program with real drivers.
pictures: build tools
	$(BIN)/python docs/pictures/make.py

# The whole test suite under AddressSanitizer and UndefinedBehaviorSanitizer, or what runs in threads under
# ThreadSanitizer, or with every line counted: see instrumented/README.md.
INSTRUMENTED = $(BIN)/python -m instrumented $(if $(ADD),--add) $@ -- --numprocesses $(WORKERS) $(PYTEST_ARGS)
sanitize: build tools peers
	$(INSTRUMENTED)

THREADED := tests/codec tests/parser tests/recording tests/driver tests/transport tests/flows \
    tests/server/test_sender_threads.py
tsan: build tools peers
	$(INSTRUMENTED) $(if $(PYTEST_ARGS),,$(THREADED))

coverage: build tools peers
	$(INSTRUMENTED)

# Coverage-guided fuzzing, with clang and atheris, see fuzzing/README.md: SECONDS for each target, or for one TARGET.
fuzz simulation: SECONDS ?= 60
TARGET ?=
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m fuzzing --seconds $(SECONDS) $(TARGET)

$(VENV)/.fuzz: $(VENV)/.built requirements/fuzz.txt
	@command -v clang > /dev/null || { echo "make fuzz needs clang: apt install clang" >&2; exit 1; }
	$(PIP) install --quiet --require-hashes --requirement requirements/fuzz.txt
	CC=clang LDSHARED="clang -shared" INDIFAST_SANITIZE=address,undefined,fuzzer-no-link $(BIN)/python setup.py --quiet build \
	    --build-base build/fuzzing-tmp --build-lib build/fuzzing-extensions build_ext --parallel 2
	touch $@

# Simulates whole sites, one seed after the other, for SECONDS: python -m tests.simulation --help.
simulation: build tools
	$(BIN)/python -m tests.simulation --seconds $(SECONDS)

# Runs real servers, drivers and clients, and makes one fault after the other, for SECONDS: docs/explanation/reliability.md.
# SEED=N makes the faults of another run again.
soak: SECONDS ?= 3600
soak: build tools peers
	INDIFAST_PEERS="$(CURDIR)/$(PEERS)" $(BIN)/python -m tests.soak --seconds $(SECONDS) \
	    $(if $(SEED),--seed $(SEED)) $(SOAK_ARGS)

# Updates the versions in requirements/ to the newest that pyproject.toml allows.
lock: tools
	$(PIP) install --quiet uv
	$(BIN)/python requirements/lock.py

build: $(VENV)/.built

$(VENV)/.packages: pyproject.toml requirements/build.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "indifast needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(BUILD_PACKAGES)
	INDIFAST_EXTENSIONS=later $(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Packages that tests, benchmarks and lint need, but `make demo` does not.
.PHONY: tools
tools: $(VENV)/.tools

$(VENV)/.tools: $(VENV)/.packages requirements/test.txt
	INDIFAST_EXTENSIONS=later $(PIP) install --quiet $(TEST_PACKAGES)
	touch $@

$(VENV)/.docs: $(VENV)/.packages requirements/docs.txt
	INDIFAST_EXTENSIONS=later $(PIP) install --quiet $(DOCS_PACKAGES)
	touch $@

$(VENV)/.built: $(VENV)/.packages setup.py $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2 build_scripts --build-dir $(BIN)
	touch $@

$(PEERS)/%/.done: requirements/peer-%.txt | $(VENV)/.packages
	rm -rf $(@D)
	$(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D)/bin/python install --quiet --require-hashes --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist src/*.egg-info src/indifast/*.so src/indifast/*.c
