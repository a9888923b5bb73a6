PYTHON ?= python

.PHONY: check docs test test-all smoke

check:  ## What a reader would complain about: format, lint, types, import direction, spelling.
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	lint-imports
	codespell
	hadolint docker/Dockerfile

docs:  ## The site of the documents, with the Python API's reference: build/site/site/index.html.
	$(PYTHON) docs/make_site.py

test:  ## A few minutes on two cores: no processes, no network, no accelerator.
	$(PYTHON) -m pytest -n auto

test-all: test  ## Also the tests that start Ray and Redis, and the slow ones.
	$(PYTHON) -m pytest -m "(ray or redis or slow) and not gpu and not soak"

smoke:  ## The whole system on this machine in under a minute.
	$(PYTHON) launch/multitask.py --preset smoke
