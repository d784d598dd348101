# make run     the shop and a pretend QQ on this machine; PORT (8000) and QQ_PORT (8001) choose the ports
# make serve   the shop as in production, by gunicorn, with the environment's settings, database and cache; it migrates
#              nothing. PORT (8000) on this machine alone, or BIND=0.0.0.0:80; WEB_CONCURRENCY workers of THREADS threads
# make test    everything the project claims; ARGS="-k callback" is handed to pytest
# make mutation changes apps/oauth in one small way after another and sees a test fail each time; see tests/tools/mutation.py
# make bench    measures how fast a login is, beside others; needs MariaDB and Redis; ARGS="--only slow" is a choice
# PYTHON names the Python (3.10 or later) that .venv is made with.

PYTHON ?= python3
.PHONY: run serve test mutation bench

run: .venv/installed
	@exec .venv/bin/python -m standin.demo

serve: .venv/serving
	@: $${QQ_CLIENT_ID:?is not set. README.md says what production needs; make run needs nothing}
	@exec .venv/bin/gunicorn -c python:meiduo.server --bind "$${BIND:-127.0.0.1:$${PORT:-8000}}" meiduo.wsgi

test: .venv/bin/pip
	@exec .venv/bin/python tests/tools/everything.py $(ARGS)

# Not among tests/requirements.txt, as nothing else needs it. tests/tools/mutation.py reads the files this version writes.
mutation: .venv/bin/pip
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt 'mutmut>=3.8,<3.9'
	@exec .venv/bin/python tests/tools/mutation.py $(ARGS)

bench: .venv/bin/pip
	@exec .venv/bin/python -m benchmarks $(ARGS)

.venv/installed: meiduo/requirements.txt standin/requirements.txt | .venv/bin/pip
	@echo "Installing what the shop needs into .venv"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r meiduo/requirements.txt -r standin/requirements.txt
	@touch $@

.venv/serving: requirements.txt meiduo/requirements.txt | .venv/bin/pip
	@echo "Installing what the shop needs into .venv"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt || { echo 'mysqlclient is compiled. On Debian: apt-get install gcc pkg-config python3-dev libmariadb-dev' >&2; exit 1; }
	@touch $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed, this is " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 run")'
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; echo 'Making .venv failed. On Debian: apt-get install python3-venv' >&2; exit 1; }
