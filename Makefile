# Two commands need nothing but Python 3.10 or newer:
#
#   make demo     scores the example photographs
#   make test     runs the tests
#
# Both make .venv at the first run and again when pyproject.toml has changed. Variables:
#
#   PYTHON=...         use this Python, with what is installed there, and make no environment
#   VENV=...           another folder than .venv
#   BASE_PYTHON=...    the Python that makes the environment; python3
#   TORCH_INDEX=...    where torch comes from (scripts/make_venv.py); empty: the index that pip is configured with

VENV ?= .venv
BASE_PYTHON ?= python3

ifdef PYTHON
GREPQ := $(PYTHON) -m grepq_iqa
demo_ready :=
dev_ready :=
else
PYTHON := $(VENV)/bin/python
GREPQ := $(VENV)/bin/grepq
demo_ready := $(VENV)/.demo-ready
dev_ready := $(VENV)/.dev-ready
endif

.PHONY: check lint types test demo format docs pictures release-check

# Offline, with the bundled model: the example photographs, best first.
demo: $(demo_ready)
	@HF_HUB_OFFLINE=1 $(PYTHON) examples/score_photos.py
	@echo; echo "Next, your own:  $(GREPQ) score $(or $(wildcard $(HOME)/Pictures),PHOTO_OR_FOLDER)"

# A process a core, of one thread each; tests of one file share what they have made.
test: $(dev_ready)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n auto --dist loadfile

check: lint types test

lint: $(dev_ready)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(dev_ready)
	$(PYTHON) -m mypy

format: $(dev_ready)
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

# The documentation site, offline, warnings as errors: docs/_build/html/index.html.
docs: $(dev_ready)
	$(PYTHON) -m sphinx -b html -W --keep-going -q docs docs/_build/html

# The pictures of the README: the fit by the README's own command, the report through Chromium and Playwright.
pictures: $(dev_ready)
	$(PYTHON) -m grepq_iqa fit --csv examples/photos/labels.csv -o "$$(mktemp -d)/my-model" --plot docs/fit.png --overwrite
	$(PYTHON) studies/page_pictures.py -o docs/report.jpg

# Wheel and sdist are built, checked, installed into fresh environments, the lowest versions included, and score.
release-check: $(dev_ready)
	$(PYTHON) scripts/release_check.py

$(VENV)/.demo-ready: pyproject.toml scripts/make_venv.py
	@command -v $(BASE_PYTHON) > /dev/null || { echo "make: $(BASE_PYTHON) is not on PATH: install Python 3.10 or newer" >&2; exit 1; }
	@$(BASE_PYTHON) scripts/make_venv.py $(VENV) plot
	@touch $@

# What the tests need holds all that the demo needs.
$(VENV)/.dev-ready: pyproject.toml scripts/make_venv.py
	@command -v $(BASE_PYTHON) > /dev/null || { echo "make: $(BASE_PYTHON) is not on PATH: install Python 3.10 or newer" >&2; exit 1; }
	@$(BASE_PYTHON) scripts/make_venv.py $(VENV) dev
	@touch $(VENV)/.demo-ready $@
