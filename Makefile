# The two commands of README.md are `make demo` and `make test`; both set up .venv by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test core check docs notebooks faults slurm bench clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c constraints.txt -e '.[all,cpu,dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/sftdiv run reference --config configs/reference/sample.yaml --out .demo

# Three workers on two cores: tests wait for processes, disks and clocks a quarter of their time.
# SFTDIV_DETECT=bf16=0 or bf16=1 before it: as on a processor without bfloat16, or with it.
test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 3 --dist worksteal

# The half that is about stages, folders and selection: seconds, no torch.
core: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/core tests/selection

check: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/deptry sft_diversity pipelines
	$(BIN)/python -m pytest -n 3 --dist worksteal

# The documentation site, into build/site: `python -m http.server -d build/site` shows it.
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Runs the notebooks of docs/notebooks and writes their outputs into them.
notebooks: $(VENV)/.ready
	$(BIN)/python -m tests.test_notebooks

# What is promised of bad input, machines and neighbours, tried: SEED=3 for other cases, MINUTES=5 to
# begin none after that, ONLY=kills/select for some. Mounts small disks where root runs it.
faults: $(VENV)/.ready
	$(BIN)/python -m tests.faults --seed $(or $(SEED),0) --minutes $(or $(MINUTES),60) \
	    --jobs 2 --only "$(ONLY)"

# On a Slurm of one node that the tests install and start: Debian's packages, as root.
slurm: $(VENV)/.ready
	$(BIN)/python -m pytest -n 0 -m slurm tests/cluster

# README's leaderboard: peers beside us in one run, about eight minutes on two quiet cores. ROOT is the
# folder of the published sources (configs/ingest/reference-117k.yaml). Other figures have commands of
# their own, in the table that states them.
bench: $(VENV)/.ready
	$(PYTHON) -m venv .bench/peers
	.bench/peers/bin/pip install -q apricot-select submodlib-py scipy
	$(BIN)/sftdiv ingest --config configs/ingest/reference-117k.yaml --root $(ROOT) --out .bench/corpus
	$(BIN)/python benchmarks/leaderboard.py .bench/corpus --root $(ROOT) --peers .bench/peers/bin/python

clean:
	rm -rf .demo .bench .sftdiv .pytest_cache .mypy_cache .ruff_cache
