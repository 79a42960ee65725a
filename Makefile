PYTHON ?= python

.PHONY: check lint types test demo format docs

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# Offline, with the bundled model: the example photographs, best first.
demo:
	HF_HUB_OFFLINE=1 $(PYTHON) examples/score_photos.py

# The documentation site, offline, warnings as errors: docs/_build/html/index.html (pip install -e ".[docs]" first).
docs:
	$(PYTHON) -m sphinx -b html -W --keep-going -q docs docs/_build/html
