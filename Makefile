# Everything a developer types. Each target sets up what it needs; nothing is written outside .venv,
# build/ and the user's Kafka cache.

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/tools.stamp
BUILT := $(VENV)/built.stamp
INSTALLED := $(VENV)/installed.stamp
CORE := setup.py $(wildcard src/copycore/*.pyx src/copycore/*.pxd src/copycore/*.h)
WORKERS ?= 2
FUZZ_SECONDS ?= 3600
# The oldest with KRaft in production, those of `make test`, and the newest brokers.
MATRIX ?= 3.3.2 3.9.2 4.1.1 4.4.0
MATRIX_TESTS := $(addprefix tests/scenario/test_,shapes.py edges.py rerun.py split.py \
    transactions.py kills.py)
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

.PHONY: help setup demo test matrix lint docs bench bench-rates bench-polite bench-merge microbench perf \
    soak fuzz sanitize clean

help:
	@echo "make setup | demo | test | matrix | lint | docs | bench | bench-rates | bench-polite |" \
	    "bench-merge | microbench | perf | soak | fuzz | sanitize | clean"
	@echo "What each does: CONTRIBUTING.md"

setup: $(BUILT) $(INSTALLED)

# The build requirements go into the environment too: with them a changed core is rebuilt in place
# in seconds, instead of in a fresh isolated environment.
$(TOOLS): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -c 'import tomllib; \
	    print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    > $(VENV)/build-requires
	$(BIN)/python -m pip install --quiet -r $(VENV)/build-requires
	touch $@

$(BUILT): $(TOOLS) $(CORE)
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel $(CORES)
	touch $@

# After the build, whose results the editable install takes as they are.
$(INSTALLED): $(TOOLS) | $(BUILT)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable . --group test --group lint
	touch $@

demo: setup
	$(BIN)/python -m replicator.lab.demo

# Most tests wait for brokers, so two files at a time take half as long; each worker has a source
# and a target of its own.
test: setup
	$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# All that a copy rests on, with clusters of each version.
matrix: setup
	set -e; for version in $(MATRIX); do \
	    KAFKA_VERSION=$$version $(BIN)/python -m pytest $(MATRIX_TESTS) -m "not soak" \
	        -n $(WORKERS) --dist loadfile --no-loadscope-reorder; \
	done

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src/copycore  # it calls pycodestyle
	$(BIN)/python -m replicator.cli.reference --check

docs: setup
	$(BIN)/python -m replicator.cli.reference

bench: setup
	$(BIN)/python bench/macro.py

bench-rates: setup
	$(BIN)/python bench/rates.py

bench-polite: setup
	$(BIN)/python bench/polite.py

bench-merge: setup
	$(BIN)/python bench/merge.py

microbench: setup
	$(BIN)/python -m pytest bench --benchmark-enable --benchmark-only

perf: setup
	$(BIN)/python bench/perf.py

# Shown at once: a seed is of no use when it is lost with the machine.
soak: setup
	$(BIN)/python -m pytest -m soak -v --capture=no --durations=0

fuzz: setup
	cd tests && ../$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS)

sanitize: setup
	bash tests/sanitize.sh

clean:
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis
	find src -name '*.so' -delete
	find src/copycore -name '*.c' -delete
	find src tests bench -name __pycache__ -prune -exec rm -rf {} +
