# The doors of the house. `make` alone lists them.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
STAMP := .venv/.ready
RUN ?= mnist/with-bn
SEED ?= 0
STEPS ?= 500
LIBRARY ?= none
LAB ?=
PRESS := $(BIN)/python -m bnkit.book

.DEFAULT_GOAL := help
.PHONY: help setup book pdf serve lab test check fix rerun sweep compare runs verify bench conformance clean lock

help: ## list the doors
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## set up .venv from requirements.lock, when needed and only then

book: $(STAMP) ## execute what changed, check it, build _build/html/index.html (DRAFT=1: uncommitted chapters, too)
	@$(PRESS) build $(if $(DRAFT),--draft)

serve: $(STAMP) ## show the built book on localhost (PORT=8000)
	@$(PRESS) serve --port '$(PORT)'

pdf: book ## the whole book as one file, _build/book.pdf, where a Chromium is found
	@$(PRESS) pdf

# root needs --allow-root, and would be told so by a traceback
lab: $(STAMP) ## open JupyterLab on the chapters; LAB="--no-browser --port 9999" passes options on
	$(BIN)/jupyter lab chapters $$(test "$$(id -u)" != 0 || echo --allow-root) $(LAB)

test: $(STAMP) ## run all tests
	$(BIN)/python -m pytest

check: $(STAMP) ## lint, format, committed notebooks, reading order, lock, claims, records, front page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PRESS) check
	$(BIN)/python -m bnkit check
	$(BIN)/python -m bnkit.front --check

fix: $(STAMP) ## repair what can be repaired: lint, format, outputs in notebooks, cells of claims
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(PRESS) strip
	$(PRESS) claims

rerun: $(STAMP) ## one chapter with other parameters: CHAPTER=08-mnist PARAMS="steps=5000 seeds=3"
	@$(PRESS) rerun "$$CHAPTER" "$$PARAMS"

sweep: $(STAMP) ## every combination, one table: CHAPTER=08-mnist PARAMS="source=live learning_rate=0.1,0.5,2 seeds=3"
	@$(PRESS) sweep "$$CHAPTER" "$$PARAMS" --scheduler "$$SCHEDULER"

compare: $(STAMP) ## re-runs side by side, or one beside the book: RUNS="_build/reruns/NAME book"
	@$(PRESS) compare $$RUNS

runs: $(STAMP) ## make every recorded run that is missing; safe to stop and to start again
	$(BIN)/python -m bnkit runs

verify: $(STAMP) ## train the first steps of a recorded run again and compare: RUN=mnist/with-bn SEED=0 STEPS=500
	@test $(words $(RUN)) = 1 || { echo "RUN is one name: make verify RUN=mnist/with-bn SEED=0 STEPS=500" >&2; exit 1; }
	$(BIN)/python -m bnkit verify $(RUN) --seed $(SEED) --steps $(STEPS)

bench: $(STAMP) ## time ours beside its peers
	$(BIN)/python -m bnkit bench

conformance: ## examine a library's batch norm in an environment of its own, record its card: LIBRARY=flax
	@test -f 'adapters/$(LIBRARY).py' || { echo "LIBRARY is one of: $(basename $(notdir $(wildcard adapters/*.py)))" >&2; exit 1; }
	$(PYTHON) -m venv '_build/conformance/$(LIBRARY)'
	'_build/conformance/$(LIBRARY)/bin/python' -m pip install --quiet --disable-pip-version-check 'numpy>=2.0' \
	  $$(sed -n 's/^INSTALL = "\(.*\)"$$/\1/p' 'adapters/$(LIBRARY).py')
	PYTHONPATH=. '_build/conformance/$(LIBRARY)/bin/python' -m bnkit.conformance 'adapters/$(LIBRARY).py' --record data/conformance

clean: ## remove everything built; records and downloaded data stay
	rm -rf _build

lock: ## renew requirements.lock from pyproject.toml, with the newest versions it allows
	rm -rf _build/lock
	$(PYTHON) -m venv _build/lock
	_build/lock/bin/python -m pip install --quiet --editable '.[torch,kernels,data,plots,claims,book,lab,dev,onnx,cluster]'
	_build/lock/bin/python -m pip freeze --exclude-editable > _build/lock/frozen.txt
	@# No local versions (+cpu), no addresses, and none of the packages that only CUDA builds of torch bring along. Triton
	@# comes with them too, in the same version, but its interpreter tests the kernels everywhere that it installs: Linux.
	{ echo '# Exact versions, no addresses: one lock for CPU and CUDA builds of torch alike.'; \
	  echo '# Renewed with `make lock`.'; \
	  sed -e 's/+[a-z0-9.]*$$//' -e 's/^triton==.*/& ; platform_system == "Linux"/' _build/lock/frozen.txt \
	    | grep -E '^[A-Za-z0-9._-]+==' | grep -E -v '^(nvidia|cuda)'; } > requirements.lock
	rm -rf _build/lock

# The stamp is written last: a set-up that was cut short is repaired by the next `make`.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is" \
	  "older or missing. If you have another one: make setup PYTHON=python3.12"; exit 1; }
	@echo "setting up .venv from requirements.lock"
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment; on Debian or Ubuntu install" \
	  "the package python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
