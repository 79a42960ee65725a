PYTHON ?= python

.PHONY: check lint types test demo format

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
