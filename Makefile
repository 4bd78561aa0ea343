# Everything a fresh machine needs; each target may be repeated.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
STAMP := $(VENV)/.stamp
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help install demo app test check types clean

help:
	@echo "make demo   the whole loop on sample_data, about 10 minutes on 2 cores"
	@echo "make app    the workbench on the demo's folder"
	@echo "make test   ruff, mypy on the built wheel, every test"
	@echo "make install  .venv with everything"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What the demo and the app need. torch comes first: the others then take what is there.
$(STAMP)-run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "[install] torch, then the rest (about 2 minutes)"
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e '.[app,train]'
	@$(BIN)/python -c "from curation import likeness, sketch, wording, words; [x.warm() for x in (sketch, wording, words, likeness)]"
	@touch $@

$(STAMP)-test: $(STAMP)-run
	@echo "[install] test tools"
	@$(PIP) install -c constraints.txt -e '.[app,train,qlora,board,scale,test]'
	@if ! command -v chromium >/dev/null && [ -z "$$CHROMIUM" ] && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  echo "[install] chromium for the browser tests"; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; fi
	@touch $@

install: $(STAMP)-test

demo: $(STAMP)-run
	@$(BIN)/curation demo demo

app: $(STAMP)-run
	@test -d demo || { echo "no folder demo: make demo comes first"; exit 2; }
	@$(BIN)/curation app demo

check: $(STAMP)-test
	@$(BIN)/ruff check .
	@PATH="$(abspath $(BIN)):$$PATH" bash .ci/wheel

# A file's tests stay in one process: they share a folder, a run or a browser.
test: check
	@$(BIN)/pytest -n 2 --dist loadfile

clean:
	rm -rf demo build *.egg-info .pytest_cache .ruff_cache .mypy_cache
