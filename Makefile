# make repro   the whole experiment of params.yaml, on a machine with git, make and Python 3.11,
#              3.12 or 3.13
# make test    the tests
# Both install the pinned requirements into .venv first, once, with the first such Python that they
# find, or with another one: make PYTHON=/path/to/python3.13 (delete an older .venv before).

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Keep freed memory instead of returning it to the system after every training step (glibc only):
# the page faults cost 2 to 15 % of the time.
export MALLOC_TRIM_THRESHOLD_ := 1073741824
export MALLOC_MMAP_THRESHOLD_ := 1073741824
export MALLOC_TOP_PAD_ := 67108864

FITS = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	"$$python" -c '$(FITS)' >/dev/null 2>&1 && { echo "$$python"; break; }; done)
REQUIREMENTS = .venv/requirements.txt

.PHONY: repro test rounding lint lock smoke seeds ladder env
repro: env
	dvc repro

# On up to eight cores at once.
test: env
	pytest -n auto --maxprocesses 8

# The tests whose outcome could depend on how a processor rounds.
rounding: env
	pytest -m rounding

lint: env
	ruff check .
	ruff format --check .
	mypy

# Whether dvc.lock belongs to the parameters and the code; needs no data.
lock: env
	.ci/lock

# The pipeline of params/smoke.yaml, from nothing, in a clone that is thrown away; and whether a
# change makes its results worse.
smoke: env
	.ci/smoke

# How far the default scatters over seeds; where accuracy goes between real and generated faces.
# The ladder needs the results of `make repro`. Both go on where they were stopped.
seeds ladder: env
	python -m ablations $@

# Compares contents, not times: a fresh checkout of the same requirements installs nothing.
env:
	@cmp -s requirements.txt $(REQUIREMENTS) || $(MAKE) --no-print-directory install

.PHONY: install
install:
	@"$(PYTHON)" -c '$(FITS)' 2>/dev/null || { echo "error: Python 3.11, 3.12 or 3.13 is needed;" \
		"found: $(or $(PYTHON),none of them). Install one, or name one:" \
		"make PYTHON=/path/to/python3.13" >&2; exit 1; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv .venv
	@echo "installing the packages of requirements.txt into .venv, which takes minutes"
	.venv/bin/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@cp requirements.txt $(REQUIREMENTS)
