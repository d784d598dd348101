"""Mutation testing: make one small change to apps/oauth after another, and check that a test fails each time.

    make mutation                                   the whole of apps/oauth: hours on one core
    make mutation ARGS="'apps.oauth.flow.store*'"   some of its functions

It lists the changes that no test detects; `.venv/bin/mutmut show NAME` prints one, mutants.md explains those that need
no test. This is mutmut, except that pytest gets the tests to run from a hook: on its command line, it finds none of
those whose parameters contain brackets or slashes.
"""

import sys

from mutmut.__main__ import cli
from mutmut.runners import harness


class Selection:
    def __init__(self, tests):
        self.tests = set(tests)

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.nodeid in self.tests]


def run_tests(runner, *, mutant_name, tests):
    files = sorted({test.partition("::")[0] for test in tests})
    plugins = [Selection(tests)] if tests else []
    with harness.change_cwd("mutants"):
        return runner.execute_pytest(runner._pytest_args_regular_run(files), plugins=plugins)


if __name__ == "__main__":
    harness.PytestRunner.run_tests = run_tests
    cli(["run", *sys.argv[1:]])
