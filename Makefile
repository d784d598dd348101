# make run       the shop and a stand-in for QQ on this machine; PORT (8000) and QQ_PORT (8001) choose the ports
# make serve     the shop under gunicorn as in production, configured by the environment; run the migrations first.
#                PORT (8000) on this machine only, or BIND=0.0.0.0:80; WEB_CONCURRENCY workers of THREADS threads.
#                TUNABLES: give the memory of a password hash back, of which a worker would keep 350 MB; share the rest
#                between threads, which saves a tenth of a worker's memory and costs no CPU
# make test      all tests and checks; ARGS="-k callback" is passed to pytest
# make test-versions  the tests on each version of the README's table, for hours; ARGS="MySQL 3.10" chooses rows
# make test-cluster   the login on several servers of each kind, with something broken under load: see tests/cluster.
#                Half an hour, on a machine that does nothing else; ARGS="--rounds 1 --rate 5 -k redis" tries less
# make mutation  changes apps/oauth in small ways and checks that a test fails each time; see tests/tools/mutation.py
# make bench     measures the speed of a login, next to other implementations; ARGS="--only slow" runs some scenarios
# PYTHON is the Python (3.10 or later) that creates .venv.

PYTHON ?= python3
TUNABLES = glibc.malloc.mmap_threshold=1048576:glibc.malloc.arena_max=1:glibc.malloc.tcache_max=256
.PHONY: run serve test test-versions test-cluster mutation bench

run: .venv/installed
	@exec .venv/bin/python -m standin.demo

serve: .venv/serving
	@: $${QQ_CLIENT_ID:?is not set. docs/deployment.md lists what production needs; make run needs nothing}
	@exec env GLIBC_TUNABLES=$(TUNABLES) .venv/bin/gunicorn -c python:meiduo.server --bind "$${BIND:-127.0.0.1:$${PORT:-8000}}" meiduo.wsgi

test: .venv/bin/pip
	@exec .venv/bin/python tests/tools/everything.py $(ARGS)

test-versions: .venv/bin/pip
	@exec .venv/bin/python tests/tools/versions.py $(ARGS)

test-cluster: .venv/bin/pip
	@exec .venv/bin/python tests/tools/cluster.py $(ARGS)

# mutmut is not in tests/requirements.txt because only this needs it. mutation.py changes a method of this version.
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
