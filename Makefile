# Everything runs from .venv, which the first target that needs it makes.
#
#   PYTHON=python3.12       the interpreter that .venv is made with (3.11 or later)
#   ARGS="method=rtn"       passed on to the runner, pytest, the benchmarks or the GPU check
#   TESTS=tests/unit/test_store.py   some of the unit or of the integration tests
#   JOBS=4                  integration test files that run at a time
#   TORCH_BACKEND=cpu       at the first set-up: torch without CUDA, a much smaller download
#
# PIP_FIND_LINKS, PIP_INDEX_URL and PIP_EXTRA_INDEX_URL are honoured where they are set.

PYTHON ?= python3
ARGS ?=
JOBS ?= 2
TORCH_BACKEND ?=

BIN := .venv/bin
STAMP := .venv/.stamp

# Where a container says so, no byte code would be kept and every start would compile anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup run test lint unit integration docs bench gpu-check mutate clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@sed -n 's/^#   /  /p' Makefile

setup: $(STAMP) ## Make or bring up to date .venv

run: $(STAMP) ## Run the runner: make run ARGS="method=rtn bits=w4a16"
	@$(BIN)/runner $(ARGS)

test: lint unit integration ## Lint, then unit tests, then integration tests

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: $(STAMP) ## Unit tests only
	$(BIN)/python -m pytest $(or $(TESTS),tests/unit) -n auto $(ARGS)

# Processes that wait for their threads must not hold the processors that others need.
integration: $(STAMP) ## Integration tests only
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest $(or $(TESTS),tests/integration) -n $(JOBS) --dist loadfile \
	    --no-loadscope-reorder --durations=30 $(ARGS)

docs: $(STAMP) ## Build the documentation site into build/site
	@$(BIN)/python -m docs.site $(ARGS)

bench: $(STAMP) ## Benchmarks of the runner itself
	$(BIN)/python -m benchmarks $(ARGS)

# ARGS are options (--help) and overrides for every run. Where nothing can be installed, with an
# interpreter that has what the runner needs: python3 -m gpu_check environment.default.python=...
gpu-check: $(STAMP) ## Check the CUDA path on a GPU, in ten minutes
	@$(BIN)/python -m gpu_check $(ARGS)

# By hand: it takes long. ARGS names modules: make mutate ARGS="runner.store.*"
mutate: $(STAMP) ## Mutation testing of metrics, planning, store and validation
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt mutmut
	$(BIN)/python -m mutmut run $(ARGS)
	$(BIN)/python -m mutmut results

clean: ## Remove caches and build outputs; keep .venv and results
	rm -rf build dist mutants .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +

# uv does not read pip's settings, so they are handed over. As in pip, the best match of all
# indexes counts; the versions are pinned.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -c '' 2>/dev/null; then \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	        echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 ..." >&2; \
	        exit 1; }; \
	    $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	        v=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	        echo "$(PYTHON) cannot make virtual environments." \
	            "On Debian or Ubuntu: apt install python$$v-venv" >&2; \
	        exit 1; }; \
	    $(PYTHON) -m venv --clear .venv; \
	fi; \
	echo "Setting up .venv (the first time downloads torch: several minutes) ..."; \
	start=$$(date +%s); \
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt uv; \
	set -- --python $(BIN)/python -c constraints.txt -b constraints.txt; \
	for at in $$PIP_FIND_LINKS; do set -- "$$@" --find-links "$$at"; done; \
	if [ -n "$$PIP_INDEX_URL" ]; then set -- "$$@" --index-url "$$PIP_INDEX_URL"; fi; \
	if [ -n "$$PIP_EXTRA_INDEX_URL" ]; then \
	    set -- "$$@" --index-strategy unsafe-best-match; \
	    for at in $$PIP_EXTRA_INDEX_URL; do set -- "$$@" --extra-index-url "$$at"; done; \
	fi; \
	if [ -n "$(TORCH_BACKEND)" ]; then set -- "$$@" --torch-backend "$(TORCH_BACKEND)"; fi; \
	if [ ! -t 1 ]; then set -- "$$@" --quiet; fi; \
	$(BIN)/uv pip install "$$@" --compile-bytecode -e '.[default,dev,launchers,ray,search]'; \
	$(BIN)/python -m compileall -q runner; \
	touch $@; \
	echo "Set-up took $$(($$(date +%s) - start)) s."
