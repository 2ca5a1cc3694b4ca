# make demo | make test | make test-slow | make test-current | make test-oracles | make lint | make docs | make notebooks
# make coverage | make bundled-model | make clean

PYTHON_OK := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(firstword $(foreach python,python3.11 python3.10 python3.12 python3.13 python3,\
	$(shell $(python) -c '$(PYTHON_OK)' 2>/dev/null && echo $(python))))

CURRENT_OK := import sys; sys.exit(not (3, 12) <= sys.version_info[:2] < (3, 14))
# pyenv's commands refuse until one of its versions is chosen, which need not be this one.
PYENV := $(shell pyenv root 2>/dev/null)/versions
CURRENT_PYTHON ?= $(firstword $(foreach python,python3.13 python3.12 python3 \
	$(wildcard $(PYENV)/3.13.*/bin/python $(PYENV)/3.12.*/bin/python),\
	$(shell $(python) -c '$(CURRENT_OK)' 2>/dev/null && echo $(python))))

VENV := .venv
READY := $(VENV)/.installed
CURRENT := .venv-current
CURRENT_READY := $(CURRENT)/.installed
ORACLES := .venv-torch
ORACLES_READY := $(ORACLES)/.installed
# A PyTorch for processors alone suffices: make test-oracles TORCH='--index-url https://download.pytorch.org/whl/cpu torch'
TORCH ?= torch==2.13.0
EGT_TF := $(VENV)/bin/egt-tf
DEMO := runs/demo
BUNDLED := runs/bundled
# Test files are handed out to so many processes of one TensorFlow thread each (see tests/conftest.py).
WORKERS ?= 2
PYTEST_OPTIONS := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 10
PYTEST := $(VENV)/bin/python -m pytest $(PYTEST_OPTIONS)
# Where the numbers come from, a round of the command line, and what TensorFlow and Keras do differently from version to
# version: replicas, loss scales, data sets.
CURRENT_TESTS := tests/parity tests/lrp tests/heads tests/cli/test_bundled.py tests/integration/test_lanes.py \
	tests/test_environment.py tests/training/test_strategy.py tests/training/test_precision.py tests/data/test_records.py

.PHONY: demo test test-slow test-current test-oracles has-current coverage lint docs notebooks bundled-model box clean

# Train on drawn shapes, measure the accuracy on drawn sketches of unseen classes, explain one prediction.
demo: $(READY)
	$(EGT_TF) train --config demo --run $(DEMO) --resume
	$(EGT_TF) evaluate $(DEMO) --data synthetic:sketch
	@query=$$(ls $(DEMO)/queries/*.png | head -n 1) && \
	$(EGT_TF) explain "$$query" --run $(DEMO) --out $(DEMO)/explanation.png && \
	echo "The picture of the explanation is $(DEMO)/explanation.png"

# The last line says how long it took.
test: $(READY)
	$(PYTEST)

test-slow: $(READY)
	$(PYTEST) -m slow

# The other set of packages, in an environment of its own: see docs/installing.md.
test-current: $(READY) $(CURRENT_READY)
	EGT_TF_OTHER_PYTHON="$(abspath $(VENV))/bin/python" $(CURRENT)/bin/python -m pytest $(PYTEST_OPTIONS) $(CURRENT_TESTS)

# Relevance against zennit's and lxt's, which need PyTorch, in an environment of its own.
test-oracles: $(READY) $(ORACLES_READY)
	EGT_TF_ORACLE_PYTHON="$(abspath $(ORACLES))/bin/python" $(VENV)/bin/python -m pytest -m slow tests/lrp/test_torch_oracles.py

# Whether there is a Python for it.
has-current:
	@"$(CURRENT_PYTHON)" -c '$(CURRENT_OK)' 2>/dev/null

# Lines of the package that no test runs, in htmlcov/index.html. What runs in a process of its own is not seen.
coverage: $(READY)
	$(VENV)/bin/pip install --quiet pytest-cov
	$(PYTEST) --cov egt_tf --cov cli --cov-report html --cov-report term:skip-covered

lint: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The documentation as a site, in site/index.html. A dead link or a page that is in no menu is an error.
docs: $(READY)
	$(VENV)/bin/pip install --quiet -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --clean

# Run the notebooks of docs/tutorials again, and keep what they show.
notebooks: $(READY)
	$(VENV)/bin/pip install --quiet -e '.[notebooks]'
	CUDA_VISIBLE_DEVICES= $(VENV)/bin/python benchmarks/notebooks.py

# Make the model that comes with the package anew: train it, measure it on every drawn domain, export it.
bundled-model: $(READY)
	$(EGT_TF) train --config bundled --run $(BUNDLED) --resume
	for domain in shapes sketch texture negative fog; do \
		$(EGT_TF) evaluate $(BUNDLED) --data synthetic:$$domain || exit 1; done
	rm -rf saved_models/shapes/1 saved_models/samples/*.png
	$(EGT_TF) export $(BUNDLED) --out saved_models/shapes --version 1 --calibrate synthetic:sketch
	cp $(BUNDLED)/queries/*-01.png saved_models/samples

# Its name of before.
box: bundled-model

# $(call install,PYTHON,its check,what it must be,VENV). The stamp is written last: an interrupted installation is
# repeated, a finished one is kept until setup.cfg changes.
define install
	@"$(1)" -c '$(2)' 2>/dev/null || \
		{ echo "egt-tf needs $(3), for which there are releases of TensorFlow; name one with: make $(4)=/path/to/python" >&2; \
		exit 1; }
	@"$(1)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(1) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	"$(1)" -m venv $(@D)
	$(@D)/bin/pip install --quiet -e '.[test,lint]'
	@touch $@
endef

$(READY): setup.cfg pyproject.toml
	$(call install,$(PYTHON),$(PYTHON_OK),Python 3.10 to 3.13,PYTHON)

$(CURRENT_READY): setup.cfg pyproject.toml
	$(call install,$(CURRENT_PYTHON),$(CURRENT_OK),Python 3.12 or 3.13,CURRENT_PYTHON)

# zennit asks for Python 3.11.11 and for torchvision, and needs neither for what is asked of it here.
$(ORACLES_READY):
	"$(PYTHON)" -m venv $(@D)
	$(@D)/bin/pip install --quiet $(TORCH) 'numpy<2' Pillow
	$(@D)/bin/pip install --quiet --no-deps --ignore-requires-python 'zennit==1.0.*' 'lxt==2.1.*'
	@touch $@

clean:
	rm -rf $(VENV) $(CURRENT) $(ORACLES) build dist site runs/demo *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
