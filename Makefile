# Two commands for a fresh machine: `make triage` and `make test`. Run `make` to see the rest.
# Paths are relative and recipes are POSIX sh, so the folder may lie anywhere, spaces included.

ENV_PYTHON = .venv/bin/python
FLOOR = 80  # percent of the engine's lines that the fast tests must run
export PYTHONDONTWRITEBYTECODE = 1

# Only `make triage PORT=8000` names a target: a PORT that happens to be in the environment does not.
TARGET :=
ifeq ($(origin PID),command line)
TARGET += --pid '$(PID)'
endif
ifeq ($(origin PORT),command line)
TARGET += --port '$(PORT)'
endif

.PHONY: help triage test fast coverage lint types notebook app pictures skill zoo bundles claims peers bench fuzz secrets soak scan release lock clean venv venv-notebook venv-tests

help:
	@echo 'make triage            hang the bundled news service, name the cause, repair a copy, prove it'
	@echo 'make triage PID=1234   evidence, cause and a proposed diff for a process of yours; changes nothing'
	@echo 'make triage PORT=8000  the same for whatever listens on a port'
	@echo 'make notebook          the same path step by step, in JupyterLab'
	@echo 'make app               its control panel alone, as a page in the browser (Voila)'
	@echo 'make fast              the tests that start no server: a minute'
	@echo 'make coverage          the same, with the share of the engine that they run, and its floor'
	@echo 'make test              every test: unit, live, notebook, package; a quarter of an hour'
	@echo 'make lint              ruff: the format, and what it finds'
	@echo 'make types             mypy over scripts/'
	@echo 'make skill             rebuild skill.zip and the generated parts of the docs'
	@echo 'make pictures          take the screenshots that the README shows, in a real browser'
	@echo 'make zoo               hang every test server under every Python found, diagnose it live, write docs/zoo.md (ZOO=--all)'
	@echo 'make bundles           record the evidence of every server that has no bundle in tests/bundles (NAMES="sleep lock": these anew)'
	@echo 'make peers             hang some servers and print what py-spy, pystack, hydroid and asyncio tell of them'
	@echo 'make bench             measure how fast it is, beside py-spy; say which target is missed, write docs/bench.md'
	@echo 'make fuzz              feed every reader, the memory layer and the rewrites with nonsense (SECONDS=60 each, FUZZ=--atheris)'
	@echo 'make secrets           plant 90 secrets of 30 kinds, and count what gets through into a bundle'
	@echo 'make soak              diagnose a server under steady load each second (SECONDS=600): false alarms, its p99, memory'
	@echo 'make scan              let a security scanner read the skill; docs/scan.md explains what it finds'
	@echo 'make release           VERSION=0.2.0: bump it everywhere, rebuild, check, commit, tag; nothing is pushed'
	@echo 'make claims            run what is commonly said about executors on this Python, print what happened'
	@echo 'make lock              resolve the requirements into their locks (UPGRADE=1: newest versions)'
	@echo 'make clean             remove .venv and caches; evidence that you saved stays'

triage: venv
	@sh tooling/need.sh curl
	@$(ENV_PYTHON) scripts/hang.py triage $(TARGET)

# The tests start hundreds of programs: bytecode is kept for the next one, outside of the tree.
KEEP = PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX='$(CURDIR)/build/bytecode'
FAST = $(KEEP) $(ENV_PYTHON) -m pytest -q -n 2 -p no:nbval -m 'not live and not slow'

test: venv-tests
	@sh tooling/need.sh curl
	@$(KEEP) $(ENV_PYTHON) -m pytest -n 3 tests </dev/null  # most live tests wait

fast: venv-tests
	@$(FAST) tests </dev/null

coverage: venv-tests
	@$(FAST) --cov --cov-report=term:skip-covered --cov-fail-under=$(FLOOR) tests </dev/null

lint: venv-tests
	@$(ENV_PYTHON) -m ruff format --check .
	@$(ENV_PYTHON) -m ruff check .

types: venv-tests
	@$(ENV_PYTHON) -m mypy

notebook: venv-notebook
	@echo 'JupyterLab runs no cell by itself: press Shift+Enter once, and the panel opens. With no key at all: make app'
	@$(ENV_PYTHON) -m jupyterlab $$([ "$$(id -u)" != 0 ] || echo --allow-root) notebooks/triage.ipynb

app: venv-notebook
	@$(ENV_PYTHON) -m voila notebooks/triage.ipynb

pictures: venv-tests
	@sh tooling/need.sh curl chromium
	@$(ENV_PYTHON) tooling/picture.py
	@HANG_PICTURES=docs $(ENV_PYTHON) -m pytest -q tests/test_browser.py -k click </dev/null

skill: venv-tests
	@$(ENV_PYTHON) tooling/generate.py
	@$(ENV_PYTHON) tooling/build_skill.py

zoo: venv-tests
	@$(ENV_PYTHON) tests/zoo_matrix.py --out docs/zoo.md $(ZOO)
	@HANG_LONG=1 $(ENV_PYTHON) -m pytest -q tests/test_healthy.py </dev/null

bundles: venv-tests
	@$(ENV_PYTHON) tests/record_bundles.py $(NAMES)

peers: venv-tests
	@$(ENV_PYTHON) tooling/peers.py $(if $(WRITE),--write) $(if $(PYTHON314),--python314 '$(PYTHON314)')

bench: venv-tests
	@$(ENV_PYTHON) tooling/bench.py --write $(if $(PYSTACK),--pystack '$(PYSTACK)') $(if $(PYTHON314),--python314 '$(PYTHON314)')

fuzz: venv-tests
	@$(ENV_PYTHON) tooling/fuzz.py --jobs 2 $(if $(SECONDS),--seconds '$(SECONDS)') $(FUZZ)

secrets: venv-tests
	@$(ENV_PYTHON) tooling/planted.py

soak: venv-tests
	@sh tooling/need.sh curl
	@$(ENV_PYTHON) tooling/soak.py $(if $(SECONDS),--seconds '$(SECONDS)')

scan: venv-tests
	@$(ENV_PYTHON) tooling/scan.py

release: venv-tests
	@$(ENV_PYTHON) tooling/release.py '$(VERSION)'

claims: venv-tests
	@sh tooling/need.sh curl
	@$(ENV_PYTHON) tooling/claims.py $(if $(WRITE),--write)

lock:
	@sh tooling/lock.sh $(if $(UPGRADE),--upgrade)

clean:
	@[ -L .venv ] || rm -rf .venv
	@rm -rf build .pytest_cache .hypothesis .ruff_cache .mypy_cache .coverage
	@find scripts notebooks snippets tests tooling -name __pycache__ -prune -exec rm -rf {} +

venv:
	@sh tooling/venv.sh

venv-notebook:
	@sh tooling/venv.sh notebook

venv-tests:
	@sh tooling/venv.sh tests
