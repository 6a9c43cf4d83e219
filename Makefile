# The two commands of README.md are `make demo` and `make test`; both set up .venv by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check bench clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c constraints.txt -e '.[cpu,dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/sftdiv run reference --config configs/reference/sample.yaml --out .demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/.ready
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .demo .sftdiv .pytest_cache .mypy_cache .ruff_cache
