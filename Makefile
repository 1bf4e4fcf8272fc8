# Two commands to begin with: `make up` and `make test`.
SHELL := $(or $(shell command -v bash 2>/dev/null),$(error flaskops needs bash: install it))
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
# Where somebody else's environment says nothing, or something that Ansible or pip stops at.
ifndef HOME
export HOME := $(shell $(PYTHON) -c 'import os, pwd; print(pwd.getpwuid(os.getuid()).pw_dir)')
endif
ifeq ($(shell uname),Linux)
export LC_ALL := C.UTF-8
endif
export PIP_USER := 0
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/flaskops
INVENTORY ?= inventories/local
STAGES ?= all
# The folder of a Flask application of yours, which takes the place of the reference application.
APP ?=
ARGS ?=
PART ?=
# What is done about packages that this machine lacks: `name` says which and stops, `install` installs them, `no` does not look.
PACKAGES ?= name
export PYTHON INVENTORY ARGS PACKAGES
ifneq ($(words $(CACHE)),1)
$(error The folder '$(CACHE)' has a space in its name, which make can't use: name another one by CACHE=<folder>)
endif

# A Python environment for each set of pinned requirements, shared by all checkouts. The name says what is in it, so that a fresh
# clone, whose files are newer, does not make it again while another one uses it.
hash = $(shell { cat $(1); $(PYTHON) --version || true; } 2>/dev/null | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-12)
RUN_VENV := $(CACHE)/venv/run-$(call hash,requirements.txt)
DEV_VENV := $(CACHE)/venv/dev-$(call hash,requirements-dev.txt)
# What the tests leave for the end, because molecule takes the cluster down after its part.
RESULTS := .pytest_cache/failures.txt .pytest_cache/durations.txt
SUMMARY = echo "The slowest 20 tests, in seconds:"; sort -rn $(lastword $(RESULTS)) | sed -n 1,20p; cat $(firstword $(RESULTS)) 2>/dev/null
APP_TREE = $(if $(APP),-e "{\"app_tree\": \"$$(realpath '$(APP)')\"}")
# This clone's settings also where others are exported, or where all may write to it, so that Ansible does not look for them.
PLAYBOOK = PATH=$(RUN_VENV)/bin:$$PATH ANSIBLE_CONFIG='$(CURDIR)/ansible.cfg' ANSIBLE_COLLECTIONS_PATH='$(CURDIR)/collections' \
	ansible-playbook -i $(INVENTORY) $(APP_TREE) $(ARGS)

.PHONY: help up down verify drill test fresh test-long unit api lint docs bench packages

# Without a target: what there is. A target's text is behind its two signs.
.DEFAULT_GOAL := help
help: ## this list
	@echo "make <target> [INVENTORY=inventories/local] [ARGS=\"-e ...\"] [APP=<folder of a Flask application>]"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

up: packages $(RUN_VENV)/ready ## run site.yml: cluster, image, app, monitoring, logging, outside checks, verify (STAGES=app,verify for some)
	$(PLAYBOOK) site.yml --tags $(STAGES)

down: $(RUN_VENV)/ready ## remove what `up` has made
	$(PLAYBOOK) playbooks/teardown.yml

verify: $(RUN_VENV)/ready ## follow every link of the monitoring chain and show the evidence
	$(PLAYBOOK) site.yml --tags verify

# Breaks the application on purpose and measures what notices; docs/drill.md tells the rest.
drill: $(RUN_VENV)/ready ## break the application on purpose and measure what notices (docs/drill.md)
	$(PLAYBOOK) playbooks/drill.yml

test: packages fresh lint unit api ## everything, with each role on a real cluster in containers of this machine
	export PATH=$(DEV_VENV)/bin:$$PATH; trap '{ $(SUMMARY); } || true' EXIT; molecule test

fresh: ## forget the failures and times of the last tests
	@rm -f $(RESULTS)

# What takes longer: all parts, or `make test-long PART=cluster`; tests/long.sh lists them.
test-long: packages $(DEV_VENV)/ready ## what takes longer, or needs the machine to itself (PART=cluster for a part)
	PATH=$(DEV_VENV)/bin:$$PATH tests/long.sh $(PART)

# One process more than the machine has cores, since some wait for a server of theirs.
unit: $(DEV_VENV)/ready ## tests without a cluster, and every alert by promtool
	PATH=$(DEV_VENV)/bin:$$PATH tests/twice.sh -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) tests/unit tests/rules

# What an API server without a node shows: admission, permissions, other people's releases and autoscalers.
api: $(DEV_VENV)/ready ## tests before an API server without a node
	PATH=$(DEV_VENV)/bin:$$PATH tests/twice.sh -n 3 --dist loadfile tests/api

lint: $(DEV_VENV)/ready ## style, types, words, documentation, changelog, licences, workflows, the collection's build
	export PATH=$(DEV_VENV)/bin:$$PATH; \
	ansible-lint --offline -q && yamllint . && ruff check . && codespell && \
	MYPYPATH=collections mypy -p ansible_collections.flaskops.observability.plugins && \
	python docs/generate.py --check && \
	antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck collections/ansible_collections/flaskops/observability && \
	antsibull-changelog lint && reuse lint --lines && \
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml && \
	check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/{bug,feature}.yml && \
	check-jsonschema --builtin-schema vendor.renovate .github/renovate.json && \
	ansible-galaxy collection build --force --output-path "$$(mktemp -d)" >/dev/null

# Times and counts, each beside its goal; nothing fails for being slow. tests/bench/README.md explains them.
bench: packages $(RUN_VENV)/ready $(DEV_VENV)/ready ## times and counts, each beside its goal
	export PATH=$(DEV_VENV)/bin:$$PATH; \
	for part in exporter layer rules hosts cluster load noop logs; do python -m tests.bench.$$part; done

docs: $(DEV_VENV)/ready ## write what is generated: tables of options, dashboards
	$(DEV_VENV)/bin/python docs/generate.py

# What the machine itself must have for an inventory; more than Python only where that has a local cluster.
packages: ## name what this machine lacks for the inventory (PACKAGES=install installs it)
	@./install-packages.sh

$(RUN_VENV)/ready: | requirements.txt
	@echo "Making the Python environment $(@D) (about a minute)"
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $|
	touch $@

$(DEV_VENV)/ready: | requirements-dev.txt
	@echo "Making the Python environment $(@D) (about a minute)"
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $|
	touch $@
