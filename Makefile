# make demo: set everything up and run the whole pipeline on the slices under examples/.
# make test: set everything up and run the tests.
# make test-cloud: tests against Ceph's gateway, Azurite and fake-gcs-server, those that are installed.
# make test-operations: all services on PostgreSQL (apt-get install postgresql), as deployments/docker starts them.
# make test-ui: an operator's walk in Chromium, with PostgreSQL and Ceph's gateway (apt-get install those three).
# make test-chaos: faults of processes, disks, clocks, files and servers under small runs, for about an hour.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-cloud test-operations test-ui test-chaos check setup clean

demo: setup
	$(BIN)/scoreinv demo

# Two at a time, each with one thread: together the threads of torch would wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-cloud: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cloud]'
	$(BIN)/python -m pytest -m cloud

test-operations: setup
	$(BIN)/python -m pytest -m operations -s tests/operations

test-ui: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ui]'
	$(BIN)/python -m pytest -m ui -s tests/operations

test-chaos: setup
	$(BIN)/python -m benchmarks.chaos --rounds 10 --seed $$(date +%s) --keep /dev/null --table /dev/null

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) workspace *.egg-info .pytest_cache .mypy_cache .ruff_cache
