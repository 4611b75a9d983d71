# Two commands do everything on a fresh machine: `make app` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: app test check pytest slow screenshots clean

app: $(VENV)/app.installed
	$(BIN)/python app.py --open

test: check pytest

check: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: $(VENV)/test.installed
	$(BIN)/python -m pytest -m "not slow"

# The rest of the tests: not the product's core, or long.
slow: $(VENV)/test.installed
	$(BIN)/python -m pytest -m slow

screenshots: $(VENV)/test.installed
	$(BIN)/python -m tests.screenshots docs

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/app.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

$(VENV)/test.installed: pyproject.toml requirements-test.txt training/requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements-test.txt
	touch $@
