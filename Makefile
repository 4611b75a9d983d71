# Two commands do everything on a fresh machine: `make app` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OTHERS := $(VENV)/integrations
# Two tests at a time. Threads that wait for each other leave their core to the other process meanwhile.
TESTS := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal
SITE := -c "import site; print(site.getsitepackages()[0])"

.PHONY: app test check pytest slow fuzz matrix constraints integrations screenshots clean

app: $(VENV)/app.installed
	$(BIN)/python app.py --open

test: check pytest

check: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pytest: $(VENV)/test.installed
	$(TESTS) -m "not slow and not alone"
	$(BIN)/python -m pytest -m "alone and not slow"

# The rest of the tests: not the product's core, or long.
slow: $(VENV)/test.installed
	$(TESTS) -m "slow and not alone"
	$(BIN)/python -m pytest -m "alone and slow"

# Our vocoders in the real packages that they are for. What these need differs from what we need, so they have an
# environment of their own, which sees ours.
integrations: $(OTHERS)/installed
	$(OTHERS)/bin/python -m pytest tests/test_integrations_packages.py tests/test_integrations_systems.py \
		tests/test_f5_voice.py tests/test_matcha_voice.py

# Thousands of made-up arguments for the public functions; `make pytest` has some dozens of each.
fuzz: $(VENV)/test.installed
	FUZZ_EXAMPLES=2000 $(BIN)/python -m pytest tests/test_fuzz.py tests/test_fuzz_calls.py tests/test_fuzz_files.py --timeout 3600

# The core's tests with the oldest and the newest releases that pyproject.toml allows: docs/dependencies.md.
matrix: $(VENV)/test.installed
	.ci/matrix

# The versions that are installed here; the tests should have passed with them.
constraints: $(VENV)/test.installed
	$(BIN)/python -m tests.distributions > constraints.txt

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
	-$(BIN)/python -m pip install -e '.[mlx]' # tested where there is a wheel for the system
	echo "$(CURDIR)" > $$($(BIN)/python $(SITE))/tts-infer-tools.pth # for python benchmarks/NAME.py, from any folder
	touch $@

$(OTHERS)/installed: requirements-integrations.txt requirements-integrations-packages.txt $(VENV)/test.installed
	$(BIN)/python -m venv $(OTHERS)
	$(BIN)/python $(SITE) > $$($(OTHERS)/bin/python $(SITE))/ours.pth
	$(OTHERS)/bin/python -m pip install -r requirements-integrations.txt
	$(OTHERS)/bin/python -m pip install --no-deps --no-build-isolation --no-cache-dir -r requirements-integrations-packages.txt
	touch $@
