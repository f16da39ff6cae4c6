# `make` prints help. `make figures` and `make test` set everything up on the first call.

PRESET ?= report
TIMEOUT_S ?= 7200
LAB_OPTIONS ?=
APP_OPTIONS ?=
SINCE ?=
DAY ?=
MUSIC ?=
NOTEBOOKS := 01_data_rendering 02_vae_training 03_latent_clustering 04_interpolation_figures 05_controller_training 06_playable_latent 07_loss_and_phase

# --- which Python -----------------------------------------------------------------------------------------------------
# By default the one in .venv, made here with the versions of constraints.txt. `make figures PYTHON=python` uses the
# active conda or virtual environment as it is, and installs what it lacks. READY is a file that says "all installed".
ifeq ($(origin PYTHON),command line)
PY := $(PYTHON)
READY := $(shell $(PYTHON) -c 'import sys; print(sys.prefix)')/.vaefx-ready
else
PY := .venv/bin/python
READY := .venv/.vaefx-ready
endif
VAEFX := $(PY) -m vaefx_lib
INSTALL = $(PY) -m pip install -c constraints.txt -e '.[test]'

# --- what is made from what -------------------------------------------------------------------------------------------
# A notebook is run again when it, the library, the speech or the versions change. The library keeps renders and models
# under a fingerprint of all that they depend on, and leaves the manifest of an unchanged one alone. So a change of a
# plot runs the notebooks again but renders and trains nothing, and a change of a lesson's prose stops at its manifest.
RUN := $(if $(VAEFX_HOME),$(VAEFX_HOME)/)runs/$(PRESET)
BUILT := $(NOTEBOOKS:%=$(RUN)/notebooks/%.ipynb)
DATA := $(foreach subset,train valid test dummy_train dummy_test,$(RUN)/data/$(subset)/manifest.json)
VAE := $(RUN)/vae/manifest.json
REPORT := %/versions.py %/report.py %/report_page.py %/report_scores.py
RUNNER := %/__main__.py $(wildcard vaefx_lib/cli_*.py) %/notebooks.py %/notebook_parameters.py \
	%/packing.py %/packing_scores.py
LIBRARY := $(filter-out $(RUNNER) $(REPORT),$(wildcard vaefx_lib/*.py vaefx_lib/effects/*.py)) \
	$(wildcard vaefx_lib/speech/metadata.csv) constraints.txt

# --- lessons side by side --------------------------------------------------------------------------------------------
# Rendering and training the VAE use every core. What comes after them does not, so from then on two lessons run at a
# time. If nothing but plots has changed since `make figures` last came to its end, there is nothing to render or train:
# what the notebooks give each other is there, none waits for another, and three run at a time: even on two cores, since
# one of them is always starting or waiting for its kernel.
SETTLED := $(RUN)/notebooks/.settled
COLD_S := $(RUN)/notebooks/.cold_s
PLOTS := %plots.py %figures.py %results.py %widgets.py %_panel.py %pictures.py
WEIGHTY := $(filter-out $(PLOTS),$(LIBRARY)) $(NOTEBOOKS:%=notebooks/%.ipynb) $(DATA) $(VAE)
SIDE_BY_SIDE :=
ifeq ($(MAKECMDGOALS),figures)
ABSENT := $(filter-out $(wildcard $(WEIGHTY) $(SETTLED)),$(WEIGHTY) $(SETTLED))
SIDE_BY_SIDE := $(if $(or $(ABSENT),$(shell find $(WEIGHTY) -newer $(SETTLED))),,yes)
BEGAN := $(if $(wildcard $(RUN)/notebooks),,$(shell date +%s))
MAKEFLAGS += -j$(if $(SIDE_BY_SIDE),3,2)
else
.NOTPARALLEL:
endif
ifdef SIDE_BY_SIDE
MAKEFLAGS += $(if $(filter output-sync,$(.FEATURES)),-Otarget)
$(BUILT): export VAEFX_SIDE_BY_SIDE := 1
$(info nothing to render or train: notebooks side by side, each speaks when it has ended)
endif
# Lesson 05, the longest, begins first, and 07 beside it. Lesson 06 reads the controller that 05 has trained by the time
# at which 07 ends; if it has not, 06 waits for it. The others wait for 07 only so that none takes the place of 06. Threads
# that wait for each other must not spin in another notebook's way: that costs a factor of up to ten.
FIRST := $(foreach lesson,05_controller_training 07_loss_and_phase 06_playable_latent,$(filter %/$(lesson).ipynb,$(BUILT)))
BESIDE := $(if $(SIDE_BY_SIDE),$(BUILT),$(filter-out %/01_data_rendering.ipynb %/02_vae_training.ipynb,$(BUILT)))
PATIENT = $(if $(filter $@,$(BESIDE)),OMP_WAIT_POLICY=passive)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup figures pretrained report test coverage study study-controller study-match bench bench-figures bench-render bench-train bench-controller bench-slider lint format lab app clean

help: ## print this
	@echo 'make TARGET [PRESET=report|smoke|seven|nine|pretrained|packed|phase|week5|paper] [PYTHON=python] [TIMEOUT_S=seconds for one notebook]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## set up .venv and no more: enough to match and to play with the models that come with the library

figures: $(FIRST) $(BUILT) ## run the notebooks that are out of date: renders, model, figures, metrics.json
	@$(if $(BEGAN),echo $$(($$(date +%s) - $(BEGAN))) >$(COLD_S))
	@touch $(SETTLED)
	@echo 'figures of the preset $(PRESET) are up to date'

pretrained: $(READY) ## train the models that come with the library anew, and put them into it (half an hour)
	$(VAEFX) train pretrained --replace

report: $(READY) ## the weekly report as one page, runs/PRESET/report.html, from what is there; SINCE=day or commit, DAY=its day
	$(VAEFX) report --preset $(PRESET) --since '$(SINCE)' --day '$(DAY)'

test: $(READY) ## run the tests
	$(PY) -m pytest

coverage: $(READY) ## run the tests, and show which lines and branches of the library they reach (takes longer)
	$(PY) -m pytest --cov --cov-report=term

study: $(READY) ## the main claims over three seeds and with seven effects, into figures/metrics.json (half an hour)
	$(VAEFX) render --preset report
	$(VAEFX) study

study-controller: $(READY) ## controllers for all effects, for each, and with less to read, into figures/metrics.json (half an hour)
	$(VAEFX) study-controller

study-match: $(READY) ## matches with nine effects, into figures/metrics.json (hours); MUSIC=folder of pieces
	$(VAEFX) render --preset nine
	$(VAEFX) train vae --preset nine
	$(VAEFX) train controller --preset nine
	$(VAEFX) study-match $(if $(MUSIC),--music '$(MUSIC)')

bench: bench-figures bench-render bench-train bench-controller bench-slider ## all that follow, into figures/benchmarks.json and README.md (14 minutes, after `make figures`, nothing else running)

bench-figures: $(READY) ## measure `make figures`, after one: warm, after an edit of a plot, cold (3 minutes)
	$(PY) tests/bench_figures.py

bench-render: $(READY) ## measure speed and memory of rendering (4 minutes)
	$(PY) tests/bench_render.py

bench-train: $(READY) ## measure training to a quality, and its memory (4 minutes)
	$(PY) tests/bench_train.py

bench-controller: $(READY) ## measure a training step through effects (2 minutes)
	$(PY) tests/bench_controller.py

bench-slider: $(READY) ## measure how soon a slider is seen and heard (1 minute)
	$(PY) tests/bench_slider.py

lint: $(READY) ## check style and type hints, and that notebooks are committed without outputs
	$(PY) -m ruff check vaefx_lib tests $(wildcard notebooks/*.ipynb)
	$(PY) -m ruff format --check vaefx_lib tests
	$(PY) -m mypy
	$(if $(wildcard notebooks/*.ipynb),$(STRIP) --verify notebooks/*.ipynb)

format: $(READY) ## put the style right, and strip the notebooks
	$(PY) -m ruff check --fix vaefx_lib tests $(wildcard notebooks/*.ipynb)
	$(PY) -m ruff format vaefx_lib tests
	$(if $(wildcard notebooks/*.ipynb),$(STRIP) notebooks/*.ipynb)

lab: $(READY) ## open the list of notebooks in JupyterLab (this machine only, with a token)
	JUPYTER_PREFER_ENV_PATH=1 JUPYTER_CONFIG_PATH='$(CURDIR)/.jupyter' \
		$(PY) -m jupyterlab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/README.md \
		--ServerApp.tornado_settings="{'websocket_max_message_size': 150000000}" $(LAB_OPTIONS)

app: $(READY) ## play with the latent space in the browser, as in lesson 06 (this machine only, with a token)
	$(VAEFX) app --preset $(PRESET) $(APP_OPTIONS)

clean: ## remove everything that the preset's runs produced
	rm -rf '$(RUN)'

STRIP = $(PY) -m nbstripout --extra-keys 'metadata.papermill cell.metadata.papermill metadata.widgets'

$(BUILT): $(RUN)/notebooks/%.ipynb: notebooks/%.ipynb $(LIBRARY) | $(READY)
	$(PATIENT) $(VAEFX) notebook $< --preset $(PRESET) --timeout-s $(TIMEOUT_S)

$(RUN)/notebooks/02_vae_training.ipynb $(RUN)/notebooks/07_loss_and_phase.ipynb: $(DATA)
$(RUN)/notebooks/03_latent_clustering.ipynb $(RUN)/notebooks/04_interpolation_figures.ipynb: $(DATA) $(VAE)
$(RUN)/notebooks/05_controller_training.ipynb $(RUN)/notebooks/06_playable_latent.ipynb: $(VAE)

# A manifest is a by-product of a notebook. The recipe only looks, so make compares its true time with its dependents';
# if someone has removed it, the notebook is run again, for one manifest after the other. Where nothing is to be rendered
# or trained, it is a file as any.
ifndef SIDE_BY_SIDE
ifeq ($(MAKECMDGOALS),figures)
$(filter-out %/05_controller_training.ipynb %/07_loss_and_phase.ipynb,$(BESIDE)): | $(filter %/07_loss_and_phase.ipynb,$(BUILT))
endif
$(BESIDE): | $(filter %/02_vae_training.ipynb,$(BUILT))

$(foreach manifest,$(DATA),$(eval $(manifest): | $(BEFORE))$(eval BEFORE := $(manifest)))
$(DATA): $(RUN)/notebooks/01_data_rendering.ipynb
	@test -f $@ || $(VAEFX) notebook notebooks/01_data_rendering.ipynb --preset $(PRESET) --timeout-s $(TIMEOUT_S)
	@test -f $@ || { echo '01_data_rendering did not write $@' >&2; exit 1; }

$(VAE): $(RUN)/notebooks/02_vae_training.ipynb
	@test -f $@ || $(VAEFX) notebook notebooks/02_vae_training.ipynb --preset $(PRESET) --timeout-s $(TIMEOUT_S)
	@test -f $@ || { echo '02_vae_training did not write $@' >&2; exit 1; }
endif

# --- set-up -----------------------------------------------------------------------------------------------------------
.venv/.vaefx-ready: pyproject.toml constraints.txt
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'python3 must be version 3.11 or newer' >&2; exit 1; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || python3 -m venv .venv
	$(INSTALL)
	@touch $@

# Someone's own environment: if it has all that pyproject.toml asks for, it is left as it is but for this project itself.
ifneq ($(READY),.venv/.vaefx-ready)
$(READY): pyproject.toml
	@if $(PY) -c "$$SATISFIED"; then $(PY) -m pip install --no-deps -e .; else $(INSTALL); fi
	@touch $@
endif

define SATISFIED
import importlib.metadata as installed, sys, tomllib
try:
    from packaging.requirements import Requirement
    project = tomllib.load(open("pyproject.toml", "rb"))["project"]
    for line in project["dependencies"] + project["optional-dependencies"]["test"]:
        wanted = Requirement(line)
        if not wanted.specifier.contains(installed.version(wanted.name), prereleases=True):
            sys.exit(1)
except ImportError:
    sys.exit(1)
endef
export SATISFIED
