# The two commands that matter: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test pure random waiting browser screenshots sim faults setup fmt lint type check bench bench-quick bench-servers crowd handshakes metrics-cost neighbours soak fuzz fuzz-keep audit clean help

help:
	@echo "make demo    a broker, a shop server and three players: callbacks both ways"
	@echo "make test    all checks: lint, types, tests"
	@echo "make sim     SEEDS=100000: that many runs of the simulator"
	@echo "make faults  all tests with killed, stopped and cut off processes; SECONDS=600 SEED=7 for longer schedules"
	@echo "make bench   ringback beside hand-written loops, NATS, Redis, Socket.IO and gRPC: docs/performance.md, half an hour"
	@echo "make bench-quick  less than a minute of that, beside the loops: fails when calls have become much dearer"
	@echo "make fuzz    SECONDS=60 of coverage-guided fuzzing for each target, and of raw ZMTP at a live broker"
	@echo "make crowd   what 10,000 idle players cost the broker"
	@echo "make handshakes   how many players can join in a second, plain and with CURVE"
	@echo "make metrics-cost   what counting calls and telling of them costs"
	@echo "make neighbours   what a player that does not read, or floods, does to the others"
	@echo "make soak MINUTES=60   churn, and whether anything grows: a verdict and soak.png"
	@echo "make browser  as root: installs Chromium for the tests of the dashboard, as make test does; else they are skipped"
	@echo "make screenshots  the pictures of the dashboard in docs"
	@echo "make audit   whether a weakness of an installed package is known; needs the network"
	@echo "make fmt     format the code"

$(READY): pyproject.toml
	@echo "setting up $(VENV): half a minute, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

setup: $(READY)

demo: setup
	$(BIN)/python examples/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup
	$(BIN)/mypy

# The pure folders: no socket, clock, thread, loop, file or log. tests/test_imports.py reads this list too. Their tests
# measure coverage, by examples alone: that is the same each time, and Hypothesis under a tracer is slow. All other tests
# wait a lot, so three run at a time on two cores.
PURE := sdk/ringback/protocol sdk/ringback/core \
	broker/ringback_broker/peers broker/ringback_broker/admission broker/ringback_broker/operations \
	broker/ringback_broker/switchboard broker/ringback_broker/settings
PURE_TESTS := $(addprefix tests/,$(subst ringback/,,$(subst ringback_broker/,,$(PURE))))
comma := ,
PURE_CODE := sdk/ringback/errors.py$(subst $() ,,$(foreach folder,$(filter-out sdk/ringback/core,$(PURE)),$(comma)$(folder)/*))

test: setup
	$(MAKE) --jobs=2 --output-sync lint type pure random
	$(MAKE) waiting

pure: setup
	$(BIN)/python -m coverage run -m pytest -q -m 'not hypothesis' $(PURE_TESTS)
	$(BIN)/python -m coverage report --include='$(PURE_CODE)' --fail-under=100 --show-missing --skip-covered

random: setup
	$(BIN)/python -m pytest -q -m hypothesis

waiting: setup browser
	$(BIN)/python -m pytest -q -n 3 -m 'not hypothesis and not faults' $(foreach path,$(PURE_TESTS),--ignore=$(path))

# The page of the dashboard is tested in a real browser, Debian's. Without one these tests are skipped.
browser:
	@if ! command -v chromedriver > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get -qq update && apt-get -qq --yes --no-install-recommends install chromium chromium-driver; \
	fi; \
	command -v chromedriver > /dev/null \
		|| echo "to test the dashboard's page too, install as root: chromium chromium-driver"

screenshots: setup browser
	$(BIN)/python tests/broker/http/screenshots.py docs/images

# One after the other, so that what they measure is theirs. As root they cut links of network namespaces too.
faults: SECONDS := 30
faults: SEED = $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

faults: setup
	FAULTS_SECONDS=$(SECONDS) FAULTS_SEED=$(SEED) $(BIN)/python -m pytest -v -rs tests/faults
	$(MAKE) fuzz SECONDS=5

check: test

# Any number of seeds of the simulator; `make test` runs the first thousand.
SEEDS ?= 10000
sim: setup
	$(BIN)/python tests/sim/replay.py --seeds $(SEEDS)

# What ringback is compared with: clients from PyPI, two servers from Debian. What lacks one is left out.
$(VENV)/.bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

bench-servers:
	@missing=; for name in nats-server redis-server; do \
		PATH="$$PATH:/usr/sbin" command -v $$name > /dev/null || missing="$$missing $$name"; \
	done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		apt-get -qq update && apt-get -qq --yes --no-install-recommends install $$missing && missing=; \
	fi; \
	if [ -n "$$missing" ]; then echo "to measure what needs them too, install as root:$$missing"; fi

MEASURED := $(VENV)/performance.jsonl
bench: $(VENV)/.bench bench-servers
	rm -f $(MEASURED)
	$(BIN)/python bench/run.py --rounds 5 --json $(MEASURED)
	mv $(MEASURED) docs/performance.jsonl
	$(BIN)/python bench/report.py

bench-quick: setup
	$(BIN)/python bench/run.py --contenders loops,ringback.aio --scenarios up,down-100 --rounds 3 --seconds 0.6 --check

# Without atheris, which has wheels for few Pythons, there is still the mutator of ZMTP.
SECONDS ?= 60

fuzz: setup
	-$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS)
	$(BIN)/python tests/fuzz/zmtp.py --seconds $(SECONDS)

# Makes tests/fuzz/corpus anew of what all runs have found.
fuzz-keep: setup
	$(BIN)/python tests/fuzz/fuzz.py --keep

handshakes: setup
	$(BIN)/python bench/handshakes.py

metrics-cost: setup
	$(BIN)/python bench/metrics.py

crowd: setup
	$(BIN)/python bench/crowd.py

neighbours: setup
	$(BIN)/python bench/neighbours.py

MINUTES ?= 60
$(VENV)/.plot: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[plot]'
	@touch $@

soak: $(VENV)/.plot
	$(BIN)/python bench/soak.py --minutes $(MINUTES) --plot soak.png --json soak.jsonl

# Asks PyPI what is known against the versions installed: not in `make test`, which needs no network once set up.
audit: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --skip-editable

fmt: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .fuzz
