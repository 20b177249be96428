# make image   set up, build MODEL into an image, start it and send it a picture
# make test    set up, and run every check that CI runs
#
# On Debian as root, what is missing is installed with apt and pip. Elsewhere the same commands say what to install.

MODEL ?= examples/blur
PYTHON ?= python3
BIN := .venv/bin

.PHONY: image test test-images test-rest setup lint types pins schema clean

image: setup
	$(BIN)/python examples/try_image.py $(MODEL)

# Images are built one after the other, and leave a core free for all else.
test: setup lint types
	@sh examples/need.sh $(PYTHON) test
	$(MAKE) --jobs=2 test-images test-rest

test-images:
	$(BIN)/python -m pytest tests/end_to_end

test-rest:
	$(BIN)/python -m pytest --ignore=tests/end_to_end

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

setup: .venv/done
	@sh examples/need.sh

.venv/done: pyproject.toml
	@sh examples/need.sh $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

# Maintenance: what is generated and committed. Tests compare it.
pins: setup
	$(BIN)/python -m tests.generate pins

schema: setup
	$(BIN)/python -m tests.generate

clean:
	rm -rf .venv result* dist .mypy_cache .ruff_cache .pytest_cache
