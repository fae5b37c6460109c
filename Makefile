# Two targets are enough: `make serve` and `make test`. Both set everything up and are quick when there is nothing left to do.
PYTHON := $(or $(PYTHON),$(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done))
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PORT ?= 5006

.PHONY: serve test lint tests browser-tests browser benchmarks clean

serve: $(INSTALLED)
	$(BIN)/xai-panel serve --port $(PORT)

test: lint tests browser-tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

tests: $(INSTALLED)
	$(BIN)/pytest -q -n 2 --ignore tests/browser

browser-tests: browser
	$(BIN)/pytest -q tests/browser

browser: $(INSTALLED)
	$(BIN)/python scripts/browser.py

benchmarks: browser
	$(BIN)/python benchmarks/first_map.py
	$(BIN)/python benchmarks/pages.py

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tensorflow,onnx,cluster,train,test]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
