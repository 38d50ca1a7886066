# `make demo` and `make test` need nothing but Python >= 3.11 and make: they build a virtual environment in the checkout.
# Variables: PYTHON (interpreter that the environment is made with), VENV (where), ARGS (passed to the command), DOCS (built site).

PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$candidate" && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet
ARGS ?=
DOCS ?= docs/_build
DASK_TESTS = dask.array.tests dask.bag.tests dask.dataframe.tests dask.dataframe.dask_expr.tests \
	dask.dataframe.dask_expr.io.tests dask.tests.test_delayed dask.tests.test_base dask.tests.test_graph_manipulation
# fastapi: Prefect 3.8 passes arguments that later ones do not take.
LIBRARIES = scikit-learn xarray xgboost lightgbm dask-ml dask-jobqueue prefect-dask 'fastapi<0.140' tpot fugue \
	dask-cloudprovider dask-databricks dask-gateway dask-gateway-server dask-kubernetes dask-labextension \
	dask-memusage dask-mpi mpi4py mpich dask-remote-jobqueue dask-yarn ipyparallel \
	afar coffea cubed dask-glm dask-image featuretools rechunker stackstac streamz tsfresh
# Tests of their own, from the installed packages.
LIBRARY_TESTS = dask_labextension.tests dask_mpi.tests.test_execute dask_mpi.tests.test_initialize
ROUNDS ?= 50
SEEDS ?= 10000
SECONDS ?= 1200

# The tests of the pure cores, and those of the tiers above them that start few processes or none.
PURE_TESTS = tests/common tests/test_containment.py tests/scheduler/state tests/worker/state tests/client/state \
	tests/scenarios tests/simulation
QUICK_TESTS = tests/comm tests/rpc tests/client tests/worker

.DELETE_ON_ERROR:
.PHONY: help demo test test-quick test-pure coverage ecosystem libraries simulate chaos soak lint format docs bench clean

help:
	@echo "make demo    parse every Python file of this interpreter on a local cluster, and show what is in them"
	@echo "make test    run the test-suite"
	@echo "make test-quick  run the lower tiers: pure cores, comms, RPC, client and worker, but for slow ones"
	@echo "make test-pure   run the tests of the pure cores, which need only msgspec"
	@echo "make coverage    run the test-suite and report which lines and branches it runs (HTML in coverage_html)"
	@echo "make ecosystem   run dask's own tests of arrays, bags, dataframes and delayed under a client (UNDER=none: without)"
	@echo "make libraries   run examples of scikit-learn, xgboost, dask-ml, Prefect and others, in an environment with them"
	@echo "make simulate   run clusters of the pure cores with faults, each from a seed (SEEDS=10000; ARGS='--seed 17 --trace' for one)"
	@echo "make chaos   kill, stop and cut off worker processes during array and dataframe work (ROUNDS=50)"
	@echo "make soak    20 minutes of all that users do, after which memory, descriptors, threads and records are compared (SECONDS=180)"
	@echo "make lint    formatting, lint and types"
	@echo "make format  reformat and apply safe fixes"
	@echo "make docs    build the documentation, with warnings as errors, into docs/_build (open index.html)"
	@echo "make bench   run headrace and distributed 2026.8 alternately and print the ratios (ARGS=--quick for a short run)"
	@echo "make clean   remove the environments and caches"

demo: $(VENV)/.installed-demo
	@$(BIN)/python -m headrace.demo $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

# For the minutes between two edits; `make test` decides. Three files at a time, since tests also wait; a file's tests stay
# together, with what they share.
test-quick: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -m "not slow" -n 3 --dist loadfile $(PURE_TESTS) $(QUICK_TESTS) $(ARGS)

# Scheduler, worker and client state and what they stand on: no sockets, no dask.
test-pure: $(VENV)/.created
	@$(PIP) msgspec hypothesis pytest pytest-asyncio pytest-timeout
	$(BIN)/python -m pytest $(PURE_TESTS) $(ARGS)

# In an environment of its own: coverage's hook in site-packages follows every process that tests start. Tests that a
# measured program is too slow for may fail here; the report comes all the same.
coverage:
	@$(MAKE) --no-print-directory VENV=.venv-coverage .venv-coverage/.installed-coverage
	@rm -rf .coverage .coverage.* coverage_html
	-.venv-coverage/bin/python -m coverage run -m pytest $(ARGS)
	.venv-coverage/bin/python -m coverage combine --quiet
	.venv-coverage/bin/python -m coverage html --quiet
	.venv-coverage/bin/python -m coverage report

# dask's own test files, from the installed package, with one cluster as the scheduler of all. An hour or two; what is known
# to fail is in tests/ecosystem/known_failures.toml. ARGS='dask.bag.tests' runs a part.
# Short tracebacks: longer ones print arguments, and test_memmap unmaps the memory of one before it fails.
ecosystem: $(VENV)/.installed-test
	@PYTHONPATH=tests/ecosystem UNDER_SYNC=1 $(BIN)/python -m pytest -c /dev/null -p dask_under_client -p no:cacheprovider \
		--rootdir "$$($(BIN)/python -c 'import dask, os; print(os.path.dirname(dask.__path__[0]))')" \
		--timeout 300 -q --tb=short -W ignore::pytest.PytestUnknownMarkWarning --pyargs $(or $(ARGS),$(DASK_TESTS))

# Large (some 2 GB): not part of `make test`, which runs those of the examples whose libraries are small.
libraries: .venv-libraries/.installed
	.venv-libraries/bin/python -m pytest tests/libraries $(ARGS)
	PATH="$(CURDIR)/.venv-libraries/bin:$$PATH" .venv-libraries/bin/python -m pytest -c /dev/null -p no:cacheprovider \
		--rootdir /tmp --timeout 300 -q --tb=short --pyargs $(LIBRARY_TESTS)

# Needs only msgspec; two processes.
simulate: $(VENV)/.created
	@$(PIP) msgspec
	@PYTHONPATH=src $(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

chaos: $(VENV)/.installed-test
	@PYTHONPATH=src $(BIN)/python -m tests.integration.chaos --rounds $(ROUNDS) $(ARGS)

soak: $(VENV)/.installed-test
	@PYTHONPATH=src $(BIN)/python -m tests.integration.soak --seconds $(SECONDS) $(ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -b html --fail-on-warning --keep-going -q $(ARGS) docs "$(DOCS)"
	@echo "Open $(DOCS)/index.html"

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .venv-peer .venv-libraries .venv-coverage dist build docs/_build .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .coverage .coverage.* coverage_html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run start at once; a change of the dependencies, or of how they are installed, redoes it.
$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "headrace needs Python 3.11 or later; name one with PYTHON=/path/to/python"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "headrace needs Python 3.11 or later, and '$(PYTHON)' is not; name one with PYTHON=/path/to/python"; exit 1; }
	@echo "Creating an environment in $(VENV)"
	@"$(PYTHON)" -m venv "$(VENV)"
	@touch $@

# ./packaging/distributed stands for the distribution that these libraries require.
.venv-libraries/.installed: pyproject.toml Makefile
	@echo "Installing headrace and the libraries into .venv-libraries"
	@$(MAKE) VENV=.venv-libraries .venv-libraries/.installed-test
	@.venv-libraries/bin/python -m pip --disable-pip-version-check install --quiet ./packaging/distributed $(LIBRARIES)
	@touch $@

$(VENV)/.installed-%: pyproject.toml $(VENV)/.created
	@echo "Installing headrace and what 'make $*' needs into $(VENV)"
	@$(PIP) -e '.[$*]'
	@touch $@
