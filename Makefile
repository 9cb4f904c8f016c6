# Everything a developer calls. `make up` and `make test` set up what is missing by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEMPLATE ?= examples/shop/template.yaml

.PHONY: up test check setup coverage bench clean

up: setup ## Start Cloudlet, deploy TEMPLATE, show what runs until Ctrl-C.
	@$(BIN)/cloudlet up $(TEMPLATE)

test: setup $(VENV)/dev ## Pass the tests.
	@$(BIN)/pytest $(TESTS)

check: $(VENV)/dev ## ruff and mypy (strict).
	@$(BIN)/ruff check src tests bench
	@$(BIN)/ruff format --check src tests bench
	@$(BIN)/mypy

bench: setup $(VENV)/dev ## Measure beside peers; see bench/README.md.
	@$(BIN)/python -m bench

coverage: $(VENV)/dev ## Write docs/coverage.md from the code.
	@$(BIN)/python -m cloudlet.observe.coverage > docs/coverage.md

setup: $(VENV)/ready
	@./scripts/system-packages

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Cloudlet needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Cloudlet into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[engines]'
	@touch $@

$(VENV)/dev: $(VENV)/ready
	@echo "Installing what tests and checks need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[engines,dev]'
	@touch $@

clean: ## Remove what was set up; the state of clouds stays.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
