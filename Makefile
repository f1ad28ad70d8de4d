# Every recipe is a line or two of Python: `make demo` and `make test` are the two that a stranger needs.
PYTHON ?= python3
VENV := .venv/bin/python
UV := .venv/bin/uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --custom-compile-command "make lock"
.DEFAULT_GOAL := help

help: ## this list
	@$(PYTHON) -c 'import re; [print(f"{n:17} {t}") for n, t in re.findall(r"(?m)^(\w[\w-]*):.*?## (.*)", open("Makefile").read())]'

setup: ## Debian packages, Docker, .venv: whatever is missing
	$(PYTHON) -m tests.rig machine

images: setup ## the images of the rig, from Debian packages and PyPI wheels
	$(VENV) -m tests.rig images

demo: images ## a server, a tunnel and an app, deployed by the playbook; prints the URL
	$(VENV) -m tests.rig.demo up

demo-tunnel-stop: ## the demo's laptop goes offline
	$(VENV) -m tests.rig.demo tunnel-stop

demo-tunnel-start: ## the demo's laptop is back
	$(VENV) -m tests.rig.demo tunnel-start

demo-down: ## leave nothing of ours behind: containers, images, volumes, networks, processes
	$(PYTHON) -m tests.rig clean

test: ## every test, in one run
	$(PYTHON) -m tests.all

lint: setup ## linters, types, sanity
	$(VENV) -m tests.lint

unit: setup ## pure functions and templates
	$(VENV) -m pytest tests/unit

molecule: setup ## scenarios side by side: SCENARIO="default multi_server" (default: all), KEEP=1 leaves the servers
	$(VENV) -m tests.rig.molecule_run $(SCENARIO) $(if $(KEEP),--keep)

browser: images ## Chromium in front of the deployed app
	$(PYTHON) -m tests.rig machine --also chromium libnss3-tools && $(VENV) -m pytest tests/browser

bench: images ## side by side with the recipe and the peers
	$(PYTHON) -m tests.rig machine --also chromium && $(VENV) -m pip install -q --require-hashes -r bench/requirements.txt && $(VENV) -m bench

bench-fleet: images ## rollouts over 1 to 50 servers, side by side with pyinfra and a shell script
	$(VENV) -m pip install -q --require-hashes -r bench/requirements.txt && $(VENV) -m bench.fleet

versions: setup ## unit tests, sanity and syntax on each ansible-core: CORES="2.20 2.21" (default: all); DEPLOY=default: a whole deploy instead
	$(VENV) -m tests.versions $(CORES) $(if $(DEPLOY),--deploy $(DEPLOY))

docs: setup ## the docs as a static site, in .rig/site/html
	$(VENV) -m tests.site

release: setup ## VERSION=1.0.0: changelog, version, archive, checksum; prints how to tag and publish
	$(VENV) -m tests.release $(VERSION)

soak: images ## what takes longer than a test may
	$(PYTHON) -m tests.rig machine --also testssl.sh && $(VENV) -m pytest tests/soak

lock: setup ## requirements.txt from requirements.in, with the hash of every file; what is pinned already stays
	$(UV) requirements.in -o requirements.txt
	$(UV) -c requirements.txt bench/requirements.in -o bench/requirements.txt

clean: demo-down ## demo-down, and everything that set-up made in this folder
	rm -rf .venv .collections

.PHONY: help setup images demo demo-tunnel-stop demo-tunnel-start demo-down test lint unit molecule browser bench bench-fleet versions docs release soak lock clean
