# `make demo` and `make test` are all a newcomer needs; CI calls the same targets.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-slow test-long test-matrix kill-test fuzz soak stability lint types check docs bench bench-gpu board desk default timed clean

demo: $(VENV)/demo.stamp
	$(RUN) scripts/meta_train.py --config=configs/demo.py --workdir=runs/demo
	$(RUN) scripts/evaluate.py --workdir=runs/demo

test: $(VENV)/dev.stamp
	$(RUN) -m pytest -n auto --dist loadfile

test-slow: $(VENV)/dev.stamp
	$(RUN) -m pytest -n auto --dist worksteal -m slow

# What CI has no time for: many random optimizers, the field's curves, long meta-trainings.
test-long: $(VENV)/dev.stamp
	$(RUN) -m pytest -m long

# Kills meta-training at random moments and resumes it, 20 times over.
kill-test: $(VENV)/dev.stamp
	$(RUN) tests/experiments/kill.py

# Memory and time over 5,000 meta-updates; exits 1 if they grow.
soak: $(VENV)/dev.stamp
	$(RUN) benchmarks/robustness/soak.py --out=docs/results/robustness

# 100 runs of 10,000 steps of each bundled optimizer: hours on two cores; goes on where it was cut.
stability: $(VENV)/dev.stamp
	$(RUN) benchmarks/robustness/stability.py --out=docs/results/robustness

# The oldest and the newest supported libraries; needs the network. MATRIX="--quick" for a few tests.
test-matrix:
	$(PYTHON) tests/release/matrix.py $(MATRIX)

# Bad configurations and damaged files by the hundred, from one seed.
fuzz: $(VENV)/dev.stamp
	$(RUN) tests/experiments/fuzz.py

lint: $(VENV)/dev.stamp
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/dev.stamp
	$(RUN) -m pyright --pythonpath $(RUN)

check: lint types test test-slow docs

# The documentation as HTML in docs/_build/html; a warning is an error.
docs: $(VENV)/dev.stamp
	$(RUN) -m sphinx -q -W --keep-going -b html docs docs/_build/html

# Every optimizer on every task of the suite: hours, cell by cell; then the pictures of docs/board.md.
# BOARD="--quick" for minutes: its results go to runs/board/results.
BOARD ?= --out=docs/results/board

board: $(VENV)/dev.stamp
	$(RUN) scripts/board.py $(BOARD)

# `desk-suite` from scratch in an hour of two cores: the rule, then what it does in its first steps.
# Goes on where it was cut; its weights are runs/desk/averaged.safetensors.
desk: $(VENV)/dev.stamp
	$(RUN) benchmarks/quality/search_rule.py --trials=halved --population=32 --settle=26 --generations=42 \
		--adam=runs/desk/adam --out=runs/desk/first
	$(RUN) benchmarks/quality/search_rule.py --trials=opening --early=runs/desk/first/averaged.safetensors \
		--population=20 --spread=0.5 --settle=14 --generations=22 --adam=runs/desk/adam --out=runs/desk

# What `pretrained()` is, from scratch in two and a half hours of two cores: those, then all numbers at once,
# then what it does to tensors of more than two axes, then to pictures alone. Its weights:
# runs/default/averaged.safetensors.
default: desk
	$(RUN) benchmarks/quality/search_rule.py --trials=steady --whole=runs/desk/averaged.safetensors \
		--population=20 --spread=0.25 --diagonal --generations=18 --adam=runs/desk/adam --out=runs/default/steady
	$(RUN) benchmarks/quality/search_rule.py --trials=broad --whole=runs/default/steady/averaged.safetensors --rest_after=2000 \
		--population=20 --spread=0.2 --diagonal --generations=18 --adam=runs/desk/adam --out=runs/default/broad
	$(RUN) benchmarks/quality/part_way.py --weights=runs/desk/averaged.safetensors,runs/default/broad/averaged.safetensors \
		--share=0.7 --rest_after=2000 --out=runs/default/between.safetensors
	$(RUN) benchmarks/quality/search_rule.py --trials=heads --axes=runs/default/between.safetensors --rest_after=2000 \
		--population=12 --spread=0.5 --settle=14 --generations=24 --adam=runs/desk/adam --out=runs/default/heads
	$(RUN) benchmarks/quality/search_rule.py --trials=pictures --axes=runs/default/heads/averaged.safetensors --alone --rest_after=2000 --noise_limit=2 \
		--population=12 --spread=1 --settle=12 --generations=24 --adam=runs/desk/adam --out=runs/default

# Its like that is told the number of steps, from scratch in about as long: `desk` told, all numbers at
# once, most of the way there, then pictures alone. Its weights: runs/timed/averaged.safetensors.
timed: desk
	$(RUN) benchmarks/quality/tell_rule.py --weights=runs/desk/averaged.safetensors --left=0.2 --out=runs/timed/told.safetensors
	$(RUN) benchmarks/quality/search_rule.py --told --trials=far-horizons --whole=runs/timed/told.safetensors \
		--population=20 --spread=0.25 --diagonal --settle=30 --generations=42 --adam=runs/desk/adam --out=runs/timed/far
	$(RUN) benchmarks/quality/part_way.py --weights=runs/timed/told.safetensors,runs/timed/far/averaged.safetensors \
		--share=0.7 --out=runs/timed/between.safetensors
	$(RUN) benchmarks/quality/search_rule.py --told --trials=pictures --axes=runs/timed/between.safetensors --alone --rest_after=1000 --noise_limit=2 \
		--population=12 --spread=1 --settle=12 --generations=24 --adam=runs/desk/adam --out=runs/timed

# One work: make bench BENCH="--works=mnist". Other implementations beside it: BENCH="--peers=FOLDER".
# Seconds until a meta-trained optimizer beats tuned baselines: BENCH="--works=useful --rounds=3".
bench: $(VENV)/dev.stamp
	$(RUN) benchmarks/speed/run.py --out=benchmarks/results $(BENCH)

# The whole bench on this machine's GPU or TPU, with a JAX that sees it: a table for docs/gpu.md.
bench-gpu: $(VENV)/dev.stamp
	$(RUN) benchmarks/speed/accelerator.py --out=benchmarks/results/gpu $(BENCH)

$(VENV)/demo.stamp: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable ".[plots]"
	touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(RUN) -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache
