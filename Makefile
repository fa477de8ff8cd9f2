# Everything sets itself up: see .ci/set-up for Python; the container engine and the testbed's image come with their
# first use. An active conda or mamba environment is used, else a virtual environment in .venv.

CONDA := $(if $(CONDA_PREFIX),$(shell command -v mamba || command -v conda || command -v micromamba))
BIN := $(if $(CONDA),$(CONDA_PREFIX)/bin,.venv/bin)
PY := $(BIN)/python

# Two test files at a time where there are two cores, each on a testbed of its own.
TWO_AT_A_TIME := -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help set-up demo test test-fast fuzz lint bench jupyter refresh-runbooks testbed-up testbed-down clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='|' read -r target text; do printf '%-26s %s\n' "$$target" "$$text"; done

set-up: ## install what is missing; quick when nothing is
	@.ci/set-up "$(CONDA)"

demo: set-up ## run all runbooks on the testbed and write the records into audit/
	@$(PY) -m mailtls_nb.demo

test: set-up ## run all tests, linting and type checking among them
	@$(PY) -m pytest --no-header $(TWO_AT_A_TIME)

test-fast: set-up ## run the tests that need no containers
	@$(PY) -m pytest --no-header -m "not testbed"

fuzz: set-up ## run the property tests of all parsers for some minutes, with other input each time
	@$(PY) -m pytest --no-header -m hypothesis --hypothesis-profile=fuzz tests/unit

lint: set-up ## check style and types only
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

bench: set-up ## a large mail log, CA and audit trail: time and memory beside those of grep, zcat, openssl and sha256sum
	@$(PY) tests/bench/mail_history.py
	@$(PY) tests/bench/ca_directory.py
	@$(PY) -m tests.bench.audit_trail

jupyter: set-up ## open JupyterLab on runbooks/
	@$(PY) -m jupyterlab --ServerApp.root_dir=runbooks $(if $(filter 0,$(shell id -u)),--allow-root)

refresh-runbooks: set-up ## execute the runbooks again and save their outputs
	@$(PY) -m mailtls_nb.refresh

testbed-up: set-up ## bring the testbed's mail servers up
	@$(BIN)/mailtls-nb testbed up

testbed-down: set-up ## remove the testbed's containers, network and CA
	@$(BIN)/mailtls-nb testbed down

clean: ## remove the testbed, .venv and caches; audit/ is kept
	@for state in .testbed .testbed/tests*; do \
	  if [ -d $$state ] && [ -x $(BIN)/mailtls-nb ]; then MAILTLS_TESTBED=$$state $(BIN)/mailtls-nb testbed down || exit; fi; \
	done
	@rm -rf .venv .testbed dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
