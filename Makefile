# One command per intent. Each makes .venv first if it is missing or older than the lock.
PYTHON ?= python3
BIN := .venv/bin
JOBS ?= auto

.PHONY: demo test explore check lint bench up docs lock clean
.DEFAULT_GOAL := test

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("billing needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed  ## the main job, end to end, on this machine
	$(BIN)/billing demo

up: .venv/installed  ## the whole stack for a developer, until Ctrl-C
	$(BIN)/billing up

test: .venv/installed  ## the whole suite, in a process for each core
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

explore: .venv/installed  ## the properties of the rules, tried with other examples each time, and ten times as many
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --hypothesis-profile explore tests/unit

check: .venv/installed lint  ## what to run before a commit: lint and the quick tests
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m "not slow"

lint: .venv/installed  ## ruff, mypy --strict, the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed  ## the benchmarks: tables on screen, JSON in benchmarks/results/
	$(BIN)/python -m benchmarks

docs: .venv/installed  ## rewrite what documents say of the code: docs/reference.md, docs/states.md, docs/errors.md
	$(BIN)/python -m worker.reference

lock: .venv/installed  ## resolve pyproject.toml anew into the two hashed locks
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 --constraint requirements.lock --extra otel pyproject.toml -o requirements-runtime.lock

clean:  ## remove what was made here: the environment, the embedded servers' data, caches
	rm -rf .venv .local .mypy_cache .pytest_cache .ruff_cache .hypothesis benchmarks/results
