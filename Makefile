# The doors of the house. `make` alone lists them.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
STAMP := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup book serve lab test check rerun runs verify bench lock clean

help: ## list the doors
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## set up .venv from requirements.lock, when needed and only then

# The stamp comes last: an installation that was cut short is taken up again by the next make.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is older or missing. Try: make PYTHON=python3.12 setup"; exit 1; }
	@echo "setting up .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

book: $(STAMP) ## execute what changed, check it, build the site: _build/html/index.html
	@$(BIN)/python -m bnkit.book build

serve: $(STAMP) ## show the built site on localhost (PORT=8000)
	@$(BIN)/python -m bnkit.book serve --port $(PORT)

lab: $(STAMP) ## JupyterLab on the chapters
	@$(BIN)/jupyter lab chapters

test: $(STAMP) ## run all tests
	@$(BIN)/python -m pytest

check: $(STAMP) ## lint, format, stripped notebooks, pinned versions, a front page that fits the records
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m bnkit.book check
	@$(BIN)/python -m bnkit.book.readme --check

rerun: $(STAMP) ## a chapter with other parameters: CHAPTER=08-mnist PARAMS="steps=5000 seeds=3"
	@$(BIN)/python -m bnkit.book rerun "$(CHAPTER)" "$(PARAMS)"

runs: $(STAMP) ## make the recorded runs that are missing; safe to stop and to start again
	@$(BIN)/python -m bnkit runs

verify: $(STAMP) ## train the first steps of the main recorded runs again and compare
	@$(BIN)/python -m bnkit verify mnist/with-bn
	@$(BIN)/python -m bnkit verify mnist/without-bn

bench: $(STAMP) ## time ours beside its peers, as ratios
	@$(BIN)/python -m bnkit bench

lock: $(STAMP) ## write the installed versions into requirements.lock
	@{ echo "# Exact versions, no addresses: one lock for CPU and CUDA builds of torch alike."; \
	   echo "# Renewed with 'make lock'."; \
	   $(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//' | grep '=='; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@touch $(STAMP)

clean: ## remove what make book made (not the environment, not the data)
	rm -rf _build
