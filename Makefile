# make check       a minute and a half: lint, types and the fast tests, for whoever changes something. It takes no root,
#                  no Nix and no network once .venv is there, and leaves out what has one of the markers in FAST, the folders
#                  end_to_end and browser, and the modules in SLOW: `make test` has them
# make image       set up, build MODEL into an image, start it and send it a picture
# make builder     set up, and build tungsten's own image, for machines with nothing but an engine
# make test        set up, and run every check that CI runs; what this machine has not the means for is left out, and
#                  told in the end. Where there is no Nix, tungsten's own is taken:
#   lint, types      ruff and mypy
#   frozen           takes what must really run in tests from today's mirrors, once; then none is asked but by few tests
#   test-images      the tests that build images and run them, in five parts of a like length
#   test-clocks      the unit tests, with the clock 400 days ahead, and again three years ahead, in other time zones
#   test-today       what can't have its clock moved: it meets browsers, Nix or real packages, or is about load
# make soak        what is longer than a minute, or does the same many times; properties with examples that chance finds
# make setup       .venv, with the versions of requirements.lock; `pip install .` takes what pyproject.toml allows
# make upgrade     write requirements.lock anew: the newest of everything that pyproject.toml allows
# make newest      lint, types and unit tests with the newest of everything, in an environment of its own
# make pins        generate what is generated from the examples' locks, and all of the next
# make schema      generate the JSON Schemas, the examples' specs and the golden exports; tests compare them
# make dist        a release: the wheel and the sdist, made twice, where all differs that may; CONTRIBUTING.md has the rest
# make clean       remove what these made
#
# Any user may do all of this. On Debian as root, what is missing is installed with apt and pip.

MODEL ?= examples/blur
PYTHON ?= python3
BIN := .venv/bin
# Each of the hundreds of programs that tests start would compile all of ours again.
unexport PYTHONDONTWRITEBYTECODE
NEWEST := .venv-newest
LEFT_OUT := .venv/left-out

.PHONY: image builder check check-compiler check-server check-rest test \
  test-images test-images-made test-images-proved test-images-served test-images-kept test-images-other \
  test-today test-clocks test-clocks-days test-clocks-years soak frozen setup lint types upgrade newest pins schema dist clean

image: setup
	$(BIN)/python examples/try_image.py $(MODEL)

builder: setup
	$(BIN)/python builder/build.py

# What costs most of the time of what needs nothing special: it starts processes by the hundred, or solves again and again.
SLOW := $(addprefix tests/,$(addsuffix .py, \
  $(addprefix server/test_,answers connections main serving strength worker) \
  $(addprefix tungstenkit/resolve/test_,cuda needed_by sources written) \
  test_dist $(addprefix tungstenkit/test_,fuzz outside) \
  $(addprefix tungstenkit/fetch/test_,carry fetch mirrors own_nix web) \
  $(addprefix tungstenkit/,cli/test_init cli/test_lock cli/test_start debian/test_version export/test_poetry project/test_folder \
    project/test_template seal/test_differences spec/test_read trial/test_check) \
  $(addprefix nix/tools/test_,debversion import_check layer ldcache pack_wheel post_build run_commands scriptrun system wheel)))
FAST := not nix and not container and not browser and not frozen and not upstream and not soak

check: .venv/done
	$(MAKE) --jobs=2 --output-sync=target check-compiler check-server check-rest lint types

check-server: .venv/done
	$(BIN)/python -m pytest -q -m "$(FAST)" tests/server $(addprefix --ignore=,$(SLOW))

check-compiler: .venv/done
	$(BIN)/python -m pytest -q -m "$(FAST)" tests/tungstenkit $(addprefix --ignore=,$(SLOW))

check-rest: .venv/done
	$(BIN)/python -m pytest -q -m "$(FAST)" tests \
	  $(addprefix --ignore=,tests/end_to_end tests/browser tests/server tests/tungstenkit $(SLOW))

# Four at a time: each waits for disks, engines and the network in turn. What needs nothing frozen starts at once; of the
# others the longest is the first, so that none is left alone at the end. All that is wrong is told, not the first part's.
test: setup
	@sh examples/need.sh $(PYTHON) test
	@$(BIN)/python -m tests.machine nix
	@$(BIN)/python -m tests.machine begin $(LEFT_OUT)
	@TUNGSTEN_TESTS_LEFT_OUT=$(CURDIR)/$(LEFT_OUT) $(MAKE) --jobs=4 --keep-going frozen lint types \
	  test-clocks-days test-today test-images test-clocks-years; \
	status=$$?; $(BIN)/python -m tests.machine tell $(LEFT_OUT) && exit $$status

# The longest first.
test-images: test-images-other test-images-served test-images-kept test-images-made test-images-proved

MADE := $(addprefix tests/end_to_end/test_,$(addsuffix .py,base_image commands))
PROVED := $(addprefix tests/end_to_end/test_,$(addsuffix .py,make_image import_check reproducible sandbox hostile))
KEPT := $(addprefix tests/end_to_end/test_,$(addsuffix .py,archive kept oci relock sbom verify))
SERVED := $(addprefix tests/end_to_end/test_,$(addsuffix .py,http_surface image prometheus queue run_commands shell platforms errors other_roots))

test-images-made: frozen
	$(BIN)/python -m pytest -m "not soak" $(MADE)

test-images-proved: frozen
	$(BIN)/python -m pytest -m "not soak" $(PROVED)

test-images-served: frozen
	$(BIN)/python -m pytest -m "not soak" $(SERVED)

test-images-kept: frozen
	$(BIN)/python -m pytest -m "not soak" $(KEPT)

test-images-other: frozen
	$(BIN)/python -m pytest -m "not soak" tests/end_to_end $(addprefix --ignore=,$(MADE) $(PROVED) $(SERVED) $(KEPT))

soak: setup frozen
	@sh examples/need.sh $(PYTHON) test
	@$(BIN)/python -m tests.machine nix
	$(BIN)/python -m pytest -m soak
	$(BIN)/python -m pytest -m "hypothesis and not container" --hypothesis-profile=chance tests --ignore=tests/browser
	TUNGSTEN_STRENGTH_SECONDS=60 $(BIN)/python -m pytest tests/server/test_strength.py

frozen: setup
	$(BIN)/python -m tests.frozen.take

test-clocks: test-clocks-days test-clocks-years

test-clocks-days test-clocks-years: setup
	$(BIN)/python -m tests.clocks $(@:test-clocks-%=%)

test-today: frozen
	$(BIN)/python -m tests.clocks today

lint: .venv/done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/done
	$(BIN)/mypy

setup: .venv/done
	@sh examples/need.sh

# Nothing but what the lock names: the project itself is built by its hatchling, without an index.
.venv/done: pyproject.toml requirements.lock
	@sh examples/need.sh $(PYTHON) check
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
	@touch $@

upgrade: setup
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make upgrade" --group build --group dev --output-file requirements.lock pyproject.toml

newest: setup
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(NEWEST)/bin/python -m pip install --quiet --editable . --group dev
	$(MAKE) BIN=$(NEWEST)/bin lint types
	$(NEWEST)/bin/python -m pytest tests/tungstenkit tests/nix tests/server tests/test_repository.py \
	  -m "not nix and not browser and not frozen and not upstream and not soak"

# Maintenance: what is generated and committed. Tests compare it.
pins: setup
	$(BIN)/python -m tests.generate pins

schema: setup
	$(BIN)/python -m tests.generate

dist: setup
	$(BIN)/python -m tests.dist dist

clean:
	rm -rf .venv $(NEWEST) result* dist .mypy_cache .ruff_cache .pytest_cache
