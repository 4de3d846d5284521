# Two commands for a fresh machine with Python (3.11-3.13) and make:
#   make demo    install into .venv, train on built-in textures (27 passes, a minute or a few), judge, draw
#   make test    install into .venv, lint, type-check and run the tests
# And make docs builds the documentation in docs/_build/html, strictly, as a test does; of a machine with a GPU, without a
# network once .venv is there with lightly (extra bench) in it, make gpu tests it and times statistics and trainings on it,
# in eight minutes, with records.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= runs/demo
DEMO_DATA := textures:wood

.PHONY: demo test gpu slow docs lint clean
.DEFAULT_GOAL := test

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@echo "Installing isosphere and PyTorch into .venv (a few GB, some minutes the first time) ..."
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: .venv/installed
	rm -rf $(DEMO)
	$(BIN)/isosphere train $(DEMO_DATA) --out $(DEMO) --epochs 27 --batch-size 64 --set optim.learning_rate=4e-3
	$(BIN)/isosphere evaluate $(DEMO) $(DEMO_DATA)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadgroup

gpu: .venv/installed
	@$(BIN)/python -c 'import lightly' 2> /dev/null || $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]' \
		|| echo "lightly could not be installed: trainings are timed alone."
	$(BIN)/python -m benchmarks.gpu --records

slow: .venv/installed
	$(BIN)/pytest -m slow

docs: .venv/installed
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

clean:
	rm -rf .venv dist build docs/_build
