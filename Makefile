# make demo    hear it          make test    check it
# Both set up what they need first: a virtual environment in .venv and, as root on Debian or Ubuntu,
# the system packages. Nothing else on the machine is touched.

# 3.11 first: the figures in the docs were measured there. The trial run skips version-manager shims.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# Fails without a word where we are not root on a Debian: then the caller says what is missing.
install = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(1); }

# A third of the time of the tests that compute would be XLA's optimizing of models too small to be worth it.
UNOPTIMIZED := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false

.PHONY: demo test interop chaos soak fuzz setup jack sound clean

demo: setup sound
	$(BIN)/jazzd demo

test: setup jack
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	XLA_FLAGS="$(UNOPTIMIZED)" $(BIN)/pytest -m "not in_time" --numprocesses 2 --dist loadfile
	$(BIN)/pytest -m in_time

# With the real PEFT and torch, which are large.
interop: .venv/interop
	$(BIN)/pytest tests/interop

# make chaos SEED=2: ten minutes of faults. make soak: an hour without. make fuzz: a million inputs.
SEED ?= 1
MINUTES ?= 10
chaos: setup jack
	cd tests && ../$(BIN)/python -m chaos --seed $(SEED) --minutes $(MINUTES)

soak: setup jack
	cd tests && ../$(BIN)/python -m chaos --calm --minutes 60

fuzz: .venv/fuzz
	cd tests && ../$(BIN)/python -m fuzz --seed $(SEED)

setup: .venv/installed

# A bare Debian splits venv off from python3; python-rtmidi has no wheel from 3.13 on and is then compiled.
.venv/installed: pyproject.toml
	@[ -n "$(PYTHON)" ] || \
		{ echo "jazzd needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/it."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call install,python3-venv) || \
		{ echo "$(PYTHON) has no venv module: apt-get install python3-venv, then make again."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || \
		$(call install,python3-dev libasound2-dev libjack-jackd2-dev pkg-config g++) || \
		echo "If python-rtmidi does not compile: apt-get install python3-dev libasound2-dev libjack-jackd2-dev pkg-config g++."
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv/interop: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,interop]'
	@touch $@

.venv/fuzz: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@touch $@

# JACK gives the tests real MIDI ports on a machine without sound hardware.
jack:
	@command -v jackd >/dev/null || $(call install,jackd2) || \
		echo "No jackd here, so the JACK tests are left out: apt-get install jackd2 brings them in."

# Only the sound of demo.wav depends on these two; without them jazzd makes plain tones itself.
sound:
	@command -v fluidsynth >/dev/null || $(call install,fluidsynth fluid-soundfont-gm) || \
		{ echo "No fluidsynth here, so demo.wav will have plain tones."; \
		  echo "apt-get install fluidsynth fluid-soundfont-gm gives it a piano."; }

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
