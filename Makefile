# overlayd: `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help root venv compiled system system-test machines demo demo-down test test-thorough times test-vm lint mutants soak chaos bench bench-table deb deb-tools lock proto clean

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
PROGRESS := packaging/progress.sh
PACKAGES := python3-venv iproute2 iputils-ping mount nftables systemd
TEST_PACKAGES := containerd containernetworking-plugins etcd-client etcd-server faketime gcc git groff-base iptables libc6-dev \
	mmdebstrap musl-tools procps ruby runc systemd-container vagrant
# Debian testing has none now and then: what it is for is left out there, in words.
OPTIONAL_PACKAGES := vagrant
VM_PACKAGES := e2fsprogs mmdebstrap openssh-client qemu-system-x86

# Prints which of the Debian packages $(1) are missing. When none is, this costs one dpkg-query.
missing = comm -23 <(printf '%s\n' $(1) | sort) \
	<(dpkg-query -W -f='$${db:Status-Status} $${Package}\n' $(1) 2>/dev/null | sed -n 's/^installed //p' | sort)

# Installs those of the Debian packages $(1) that are missing; all of apt-get's output is shown only when it fails. It starts no
# service of theirs, unless the machine has a rule of its own for that, and removes no package that is in their way.
define install_missing
packages=$$($(call missing,$(1)) | xargs); \
[ -n "$$packages" ] || exit 0; \
if ! command -v apt-get >/dev/null; then \
	echo "This is no Debian: install the counterparts of these packages yourself: $$packages" >&2; exit 1; \
elif [ "$$(id -u)" != 0 ]; then \
	echo "Debian packages are missing, and only root can install them: apt-get install $$packages" >&2; exit 1; \
fi; \
echo "installing Debian packages: $$packages"; \
rules=/usr/sbin/policy-rc.d; [ -e "$$rules" ] && rule= || rule=$$rules; \
trap '[ -z "$$rule" ] || rm -f "$$rule"' EXIT; \
[ -z "$$rule" ] || install -m 755 /dev/stdin "$$rule" <<<$$'#!/bin/sh\nexit 101'; \
export DEBIAN_FRONTEND=noninteractive; \
$(PROGRESS) apt-get -q -o DPkg::Lock::Timeout=120 update; \
for package in $(OPTIONAL_PACKAGES); do \
	[[ " $$packages " != *" $$package "* ]] || LC_ALL=C apt-cache policy $$package | grep -q 'Candidate: [^(]' || { \
		packages=$$(xargs -n1 <<<"$$packages" | { grep -vx $$package || true; } | xargs); \
		echo "this release of Debian has no $$package: it goes without"; }; \
done; \
[ -n "$$packages" ] || exit 0; \
$(PROGRESS) apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends --no-remove $$packages
endef

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

cni/launcher: cni/launcher.c
	@$(PYTHON) -c 'import pathlib, sys; from cni.install import compile_launcher; sys.exit(not compile_launcher(pathlib.Path("$@")))'

root: # what needs root says so before anything else is done
	@[ "$$(id -u)" = 0 ] || { echo "make $(MAKECMDGOALS): this needs root, for network namespaces: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

system: ## install the missing Debian packages (root)
	@$(call install_missing,$(PACKAGES))

system-test: ## install the Debian packages that the tests and benchmarks want besides (root)
	@$(call install_missing,$(PACKAGES) $(TEST_PACKAGES))

machines: root system-test venv ## make the Debian that the tests boot, unless it is there (root)
	@$(VENV)/bin/python -m tests.support.machines.rootfs machine

venv: $(VENV)/.installed ## make .venv: the pinned packages, and this tree in editable mode

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "No $(PYTHON) here: overlayd needs Python 3.11 or newer (make PYTHON=... names one)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("overlayd needs Python 3.11 or newer, and \
	$(PYTHON) is %d.%d.%d (make PYTHON=... names another)" % sys.version_info[:3])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call install_missing,python3-venv); }
	@echo "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.locked: requirements-dev.lock $(VENV)/.created
	@echo "installing $$(grep -c '^[a-z0-9].*==' $<) pinned packages"
	@$(PROGRESS) $(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	@echo "installing overlayd in editable mode"
	@$(PROGRESS) $(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.mutants: requirements-mutants.lock $(VENV)/.installed
	@echo "installing mutmut"
	@$(PROGRESS) $(PIP) install --require-hashes -r $<
	@touch $@

demo: root system venv compiled ## start a demonstration on this machine; KEEP=1 leaves it running (root)
	@KEEP='$(KEEP)' $(VENV)/bin/python -m tests.demo

demo-down: root venv ## remove a demonstration that was kept (root)
	@$(VENV)/bin/python -m tests.demo down

# Tests start programs of this tree by the thousand. Where the environment forbids Python to keep what it compiles
# (PYTHONDONTWRITEBYTECODE), each of them would compile all of its modules again.
compiled: venv
	@$(VENV)/bin/python -m compileall -q overlayd controller cni bench tests

PYTEST := $(VENV)/bin/python -m pytest --numprocesses=$(or $(JOBS),4) --dist=loadfile --no-loadscope-reorder --durations=10

test: root system-test venv lint cni/launcher machines compiled ## lint, then run the tests, JOBS=4 files at once; ARGS=... goes to pytest (root)
	$(PYTEST) -m 'not thorough' $(ARGS)

test-thorough: root system-test venv lint cni/launcher machines compiled ## the same, with every variant (root)
	$(PYTEST) $(ARGS)

times: root system-test venv cni/launcher machines compiled ## the tests, and record how long each file takes: long ones go first (root)
	$(PYTEST) -m 'not thorough' --record-times $(ARGS)

test-vm: root system venv cni/launcher ## the tests of the services once more, on Debian's kernel in qemu: half an hour (root)
	@$(call install_missing,$(VM_PACKAGES))
	@$(VENV)/bin/python -m tests.support.machines.rootfs virtual-machine
	$(VENV)/bin/python -m pytest tests/machines/test_services.py --machines=qemu --durations=0 $(ARGS)

lint: venv ## check style, types and the floors of the design
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

mutants: venv $(VENV)/.mutants ## mutation tests of a pure package: PACKAGE=ipam (model, ipam, wire, dataplane, cni) MINUTES=30 RECORD=1
	@nice -n 19 $(VENV)/bin/python -m tests.mutants $(or $(PACKAGE),ipam) --minutes $(or $(MINUTES),30) $(if $(RECORD),--record)

soak: root system-test venv ## kill controllers and etcd nodes under load; MINUTES=10 HOSTS=200 SEED=1
	@mkdir -p build
	$(VENV)/bin/python -m tests.soak --minutes $(or $(MINUTES),10) --hosts $(or $(HOSTS),200) --seed $(or $(SEED),1) \
		--json build/soak.json

chaos: root system-test venv cni/launcher ## let all sorts of things go wrong in the lab; MINUTES=5 SEED=... (another one each time)
	@$(VENV)/bin/python -m tests.chaos --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

bench: root system-test venv cni/launcher ## list the benchmarks; NAME=... runs one (root)
	@$(VENV)/bin/python -m bench $(NAME)

bench-table: root system-test venv cni/launcher ## measure everything, and write the tables of both READMEs; ARGS=--continue (root)
	@$(VENV)/bin/python -m bench.reporting.table $(ARGS)

# The releases of Debian for which the package is built, by their code names.
RELEASES := bookworm trixie

COMPILE := $(VENV)/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links $(if $(UPGRADE),--upgrade)

deb-tools:
	@$(call install_missing,gcc git libc6-dev musl-tools)

deb: deb-tools venv cni/launcher ## build the Debian package, in dist/; RELEASE=trixie for that one, in dist/trixie/ (root); VERSION=...
	@case '$(RELEASE)' in \
	'' | "$$(. /etc/os-release && echo "$$VERSION_CODENAME")") \
		VERSION='$(VERSION)' PIP='$(CURDIR)/$(VENV)/bin/python -m pip' packaging/deb/build.sh dist ;; \
	*) \
		[[ ' $(RELEASES) ' = *' $(RELEASE) '* ]] || { \
			echo 'make deb: the package is built for Debian $(subst $() , or ,$(RELEASES)), not for $(RELEASE)' >&2; exit 1; }; \
		[ "$$(id -u)" = 0 ] || { echo 'make deb: this needs root, for a Debian $(RELEASE): sudo make deb RELEASE=$(RELEASE)' >&2; exit 1; }; \
		($(call install_missing,mmdebstrap)); \
		root=$$($(VENV)/bin/python -m tests.support.machines.rootfs $(RELEASE)-builder); \
		VERSION='$(VERSION)' PIP='$(CURDIR)/$(VENV)/bin/python -m pip' packaging/deb/build-in.sh "$$root" dist/$(RELEASE) ;; \
	esac

lock: $(VENV)/.locked ## recompile both lock files; UPGRADE=1 takes newer versions
	@echo "compiling requirements.lock"
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	@echo "compiling requirements-mutants.lock"
	@$(COMPILE) --extra dev --extra mutants --output-file requirements-mutants.lock pyproject.toml
	@echo "compiling requirements-dev.lock"
	@$(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	@! grep -nE '/|^-' requirements.lock requirements-dev.lock requirements-mutants.lock || \
		{ echo "A lock file names a host, a path or an option of pip" >&2; exit 1; }

proto: venv ## make the messages of etcd and of container runtimes from rpc.proto and cri.proto
	$(VENV)/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
		controller/store/etcd/rpc.proto tests/support/runtimes/cri.proto

clean: ## remove .venv, caches and build output
	rm -rf $(VENV) cni/launcher build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
