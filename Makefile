# make repro   the whole experiment of params.yaml, on a machine with Python 3.11, git and make
# make test    the tests
# Both install the pinned requirements into .venv first, once.

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# Keep freed memory instead of returning it to the system after every training step (glibc only):
# the page faults cost up to a tenth of the time.
export MALLOC_TRIM_THRESHOLD_ := 1073741824
export MALLOC_MMAP_THRESHOLD_ := 1073741824
export MALLOC_TOP_PAD_ := 67108864

PYTHON ?= $(shell for python in python3.11 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)
REQUIREMENTS = .venv/requirements.txt

.PHONY: repro test rounding lint smoke env
repro: env
	dvc repro

test: env
	pytest

# The tests whose outcome could depend on how a processor rounds.
rounding: env
	pytest -m rounding

lint: env
	ruff check .
	ruff format --check .
	mypy

# The pipeline of params/smoke.yaml, from nothing, in a clone that is thrown away.
smoke: env
	.ci/smoke

# Compares contents, not times: a fresh checkout of the same requirements installs nothing.
env:
	@cmp -s requirements.txt $(REQUIREMENTS) || $(MAKE) --no-print-directory install

.PHONY: install
install:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 is needed and none of python3.11, python3," \
		"python is it; install it or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x .venv/bin/python || "$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@cp requirements.txt $(REQUIREMENTS)
