# The two commands that matter are `make demo` and `make test`. Both first set up .venv.
# `make help` prints the lines here that begin with "##".
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
RESULTS := $(VENV)/results
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Images of Python often set this variable. Each of the hundreds of processes that tests start would then compile
# all modules of ringback again, which takes a third of the processor time of a command.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup docs demo cluster-demo check dist test lint type pure random waiting browser pythons fmt clean \
	sim faults rows fuzz fuzz-keep soak audit \
	bench service-levels bench-servers bench-quick bench-realm crowd handshakes metrics-cost dashboard-cost neighbours screenshots

help:
	@sed -n 's/^## //p' Makefile

# What ringback itself needs, and the demo.
$(BASE): pyproject.toml
	@echo "setting up $(VENV): some seconds, once"
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --editable .
	@touch $@

$(READY): $(BASE)
	@echo "installing what the checks need into $(VENV): half a minute, once"
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

setup: $(READY)

## make docs          build the documentation site, and serve it on http://127.0.0.1:8000 (DOCS_PORT=8000)
DOCS_PORT ?= 8000
docs: setup
	PYTHONPATH=website $(BIN)/python -m ringback_website --serve $(DOCS_PORT)

## make demo          run a broker, a shop server and three players, with callbacks both ways
demo: $(BASE)
	$(BIN)/python examples/demo.py

## make cluster-demo  run three brokers as one realm, kill one part after the other, and say what happens
cluster-demo: setup
	@PYTHONPATH=tests $(BIN)/python -m cluster_demo.run

# -- checks

## make test          run all checks: lint, types and tests
test: setup browser
	@rm -rf $(RESULTS)
	@code=0; { $(MAKE) --jobs=2 --output-sync lint type pure random && $(MAKE) waiting; } || code=$$?; \
	$(BIN)/python tests/support/summary.py $(RESULTS) $$code; exit $$code

check: test

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup
	$(BIN)/mypy
	$(BIN)/basedpyright

# The pure folders: no socket, clock, thread, loop, file or log. tests/test_imports.py reads this list too.
# Their tests measure coverage, without Hypothesis: examples cover the same lines each time, and Hypothesis is
# slow under a tracer.
PURE := sdk/ringback/protocol sdk/ringback/core \
	broker/ringback_broker/peers broker/ringback_broker/admission broker/ringback_broker/operations \
	broker/ringback_broker/switchboard broker/ringback_broker/settings broker/ringback_broker/cluster
PURE_TESTS := $(addprefix tests/,$(subst ringback/,,$(subst ringback_broker/,,$(PURE))))
comma := ,
PURE_CODE := sdk/ringback/errors.py$(subst $() ,,$(foreach folder,$(PURE),$(comma)$(folder)/*))

pure: setup
	TEST_RESULTS=$(RESULTS)/pure.json $(BIN)/python -m coverage run -m pytest -q -m 'not hypothesis' $(PURE_TESTS)
	$(BIN)/python -m coverage report --include='$(PURE_CODE)' --fail-under=100 --show-missing --skip-covered

random: setup
	TEST_RESULTS=$(RESULTS)/random.json $(BIN)/python -m pytest -q -m hypothesis

# These tests mostly wait, so four run at a time on two cores.
waiting: setup
	TEST_RESULTS=$(RESULTS)/waiting.json $(BIN)/python -m pytest -q -n 4 --dist worksteal -m 'not hypothesis and not faults' $(foreach path,$(PURE_TESTS),--ignore=$(path))

# The dashboard's page is tested in Debian's Chromium. Without Chromium, these tests are skipped.
## make browser       as root: install Chromium for the tests of the dashboard (make test does so too)
browser:
	@if ! command -v chromedriver > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "installing as root, with apt-get: chromium chromium-driver, for the tests of the dashboard's page"; \
		apt-get -qq update && apt-get -qq --yes --no-install-recommends install chromium chromium-driver; \
	fi; \
	command -v chromedriver > /dev/null \
		|| echo "to test the dashboard's page too, install as root: chromium chromium-driver"

## make pythons       run the tests of the SDK and the command line on each Python of 3.11 to 3.14 that there is
pythons:
	@for version in 3.11 3.12 3.13 3.14; do \
		found=; for python in python$$version $$HOME/.pyenv/versions/$$version.*/bin/python; do \
			"$$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" 2> /dev/null \
				&& found=$$python && break; \
		done; \
		if [ -z "$$found" ]; then echo "Python $$version: not found"; continue; fi; \
		echo "Python $$version: $$found"; \
		$$found -m venv $(VENV)-$$version \
			&& $(VENV)-$$version/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
			&& $(VENV)-$$version/bin/python -m pytest -q -n 2 -p no:cacheprovider tests/sdk tests/cli || exit 1; \
	done

## make fmt           format the code, and fix what ruff can fix
fmt: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# -- longer checks

## make sim           run the simulator with SEEDS=10000 seeds (make test runs the first 1000)
SEEDS ?= 10000
sim: setup
	$(BIN)/python tests/sim/replay.py --seeds $(SEEDS)

# One test after the other, so that each measures itself alone. As root, they also cut links between network
# namespaces.
## make faults        run all tests that kill, stop and cut off processes (SECONDS=30, SEED=random)
faults: SECONDS := 30
faults: SEED = $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

faults: setup
	FAULTS_SECONDS=$(SECONDS) FAULTS_SEED=$(SEED) $(BIN)/python -m pytest -v -rs tests/faults
	FAULTS_SECONDS=$(SECONDS) FAULTS_SEED=$(SEED) $(BIN)/python -m pytest -v -rs -m faults tests/cluster tests/cluster_demo tests/broker/nats tests/cli
	$(MAKE) fuzz SECONDS=5

# Worst, median and bound of each time that docs/scale.md promises.
## make rows          run the rows of faults of a realm RUNS=20 times, alone on the machine: an hour and a half
RUNS ?= 20
rows: setup
	$(BIN)/python -m pytest -v -rs -m faults tests/cluster --runs $(RUNS)

# atheris has wheels for few versions of Python. Without it, only the fuzzer of ZMTP runs.
## make fuzz          fuzz each target for SECONDS=60 with coverage guidance, and a running broker with raw ZMTP
SECONDS ?= 60

fuzz: setup
	-$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP_INSTALL) --editable '.[dev,fuzz]'
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS)
	$(BIN)/python tests/fuzz/zmtp.py --seconds $(SECONDS)

## make fuzz-keep     choose the inputs in tests/fuzz/corpus again, from those that all runs have found
fuzz-keep: setup
	$(BIN)/python tests/fuzz/fuzz.py --keep

MINUTES ?= 60
$(VENV)/.plot: $(READY)
	$(PIP_INSTALL) --editable '.[plot]'
	@touch $@

## make soak          let players come and go for MINUTES=60, check that nothing grows, and draw soak.png
soak: $(VENV)/.plot
	$(BIN)/python bench/soak.py --minutes $(MINUTES) --plot soak.png --json soak.jsonl

# This needs the network, so it is not a part of `make test`, which needs none once .venv is set up.
## make audit         ask PyPI whether an installed version has a known weakness
audit: setup
	$(PIP_INSTALL) pip-audit
	$(BIN)/pip-audit --skip-editable

# -- benchmarks

# The alternatives to ringback: clients from PyPI, and two servers from Debian. A contender without its server
# is not measured.
$(VENV)/.bench: $(READY)
	$(PIP_INSTALL) --editable '.[dev,bench]'
	@touch $@

bench-servers:
	@missing=; for name in nats-server redis-server; do \
		PATH="$$PATH:/usr/sbin" command -v $$name > /dev/null || missing="$$missing $$name"; \
	done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get -qq update && apt-get -qq --yes --no-install-recommends install $$missing && missing=; \
	fi; \
	if [ -n "$$missing" ]; then echo "to measure all contenders, install as root:$$missing"; fi

MEASURED := $(VENV)/performance.jsonl
## make bench         measure ringback and its alternatives for 45 minutes, and write docs/performance.md
bench: service-levels
	rm -f $(MEASURED)
	$(BIN)/python bench/run.py --rounds 5 --json $(MEASURED)
	mv $(MEASURED) docs/performance.jsonl
	$(BIN)/python bench/report.py

SERVICE_LEVELS := $(VENV)/service-levels.jsonl
## make service-levels  the first part of make bench: measure what users feel for a quarter of an hour
service-levels: $(VENV)/.bench bench-servers
	rm -f $(SERVICE_LEVELS)
	$(BIN)/python bench/service_levels.py --rounds 5 --json $(SERVICE_LEVELS)
	mv $(SERVICE_LEVELS) docs/service-levels.jsonl
	$(BIN)/python bench/report.py

## make bench-quick   compare ringback with loops written by hand for a minute, and fail if it is out of bounds
bench-quick: setup
	$(BIN)/python bench/run.py --contenders loops,ringback.aio --scenarios up,down-100 --rounds 3 --seconds 0.6 --check

## make bench-realm   compare calls between two nodes with calls within one and with nats-py, for five minutes
bench-realm: setup
	$(BIN)/python bench/realm.py --check

## make crowd         measure what 10,000 idle players cost the broker
crowd: setup
	$(BIN)/python bench/crowd.py

## make handshakes    measure how many players can join in a second, plain and with CURVE
handshakes: setup
	$(BIN)/python bench/handshakes.py

## make metrics-cost  measure what counting calls and reporting the counts costs
metrics-cost: setup
	$(BIN)/python bench/metrics.py

## make dashboard-cost  measure what the dashboard costs the broker, with 5 and with 5000 players
dashboard-cost: setup
	$(BIN)/python bench/dashboard.py

## make neighbours    measure what a player that does not read, or that floods, does to the others
neighbours: setup
	$(BIN)/python bench/neighbours.py

# -- releases

# `build` makes the first wheel from the sdist. It must be the one that this folder makes.
DIST ?= dist
## make dist          build the sdist and the wheel, check both, and put them into DIST=dist
dist: setup
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && set -e && \
	$(BIN)/python -m build --outdir "$$folder/both" . > "$$folder/log" || { cat "$$folder/log"; exit 1; }; \
	$(BIN)/python -m build --wheel --outdir "$$folder/tree" . > "$$folder/log" || { cat "$$folder/log"; exit 1; }; \
	cmp "$$folder"/both/*.whl "$$folder"/tree/*.whl && \
	$(BIN)/python -m twine check --strict "$$folder"/both/* && \
	mkdir -p $(DIST) && rm -f $(DIST)/ringback-* && mv "$$folder"/both/* $(DIST) && ls $(DIST)

# -- the rest

## make screenshots   take the pictures of the dashboard in docs/images
screenshots: setup browser
	$(BIN)/python tests/broker/http/screenshots.py docs/images

## make clean         remove .venv and all caches
clean:
	rm -rf $(VENV) $(VENV)-* build .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .fuzz
	find . -name __pycache__ -prune -exec rm -rf {} +
