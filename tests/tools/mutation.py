"""Mutation testing: make one small change to apps/oauth after another, and check that a test fails each time.

    make mutation                                  the whole of apps/oauth: hours on one core
    make mutation ARGS="flow.store 'qq.*_json*'"   some: flow/store.py, and functions of qq/ whose name contains _json

At the end it lists the changes that no test detects ("survivors"); `.venv/bin/mutmut show NAME` prints one. mutants.md
explains those that need no test.

mutmut makes the changes and finds the tests that reach each function. Its own runner collects all tests again for each
change, which takes longer than running them: here one process collects them once and forks for each change.
"""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from fnmatch import fnmatch
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pytest
from mutmut.configuration import config

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = ROOT / "mutants"  # made by mutmut: the project, each function next to all its changed versions
JOBS = 2
KILLED, SURVIVED, NO_TESTS, OUT_OF_TIME = 1, 0, 33, 36  # mutmut's numbers


class Runner:
    """Replaces pytest's loop over the tests: one process per mutant, which ends at the first test that fails."""

    def __init__(self, patterns):
        # "flow.store" means everything in that module; a name with a * is matched as it is.
        self.patterns = [pattern if "*" in pattern else f"{pattern}.*" for pattern in patterns] or ["*"]
        stats = json.loads((MUTANTS / "mutmut-stats.json").read_text())
        self.reached_by, self.seconds = stats["tests_by_mangled_function_name"], stats["duration_by_test"]
        self.killers = defaultdict(Counter)  # by function: the tests to try first on its next mutant

    def pytest_runtestloop(self, session):
        self.session, self.items = session, {item.nodeid: item for item in session.items}
        code, failed = self.end(*self.begin("", self.items))
        if code != SURVIVED:
            pytest.exit(f"Without any change: {failed or 'out of time'}", 1)
        for meta in sorted((MUTANTS / "apps" / "oauth").rglob("*.meta")):
            self.run_file(meta)
        return True

    def run_file(self, meta):
        results = json.loads(meta.read_text())
        codes, file = results["exit_code_by_key"], meta.with_suffix("")
        changes_case_only = case_changes(file)
        names = [name for name in codes if self.is_selected(name) and not changes_case_only(name)]
        running = []
        for name in [*names, *[None] * JOBS]:
            if running and (name is None or len(running) == JOBS):
                done, *process = running.pop(0)
                codes[done], killer = self.end(*process)
                self.killers[function_of(done)][killer] += 1
                meta.write_text(json.dumps(results))
            if name:
                tests = [test for test in self.reached_by.get(function_of(name), ()) if test in self.items]
                killers = self.killers[function_of(name)]
                tests.sort(key=lambda test: (-killers[test], self.seconds[test]))
                running.append((name, *self.begin(name, tests)))
        if names:
            count = Counter(codes[name] for name in names)
            survivors = [name for name in names if codes[name] in (SURVIVED, NO_TESTS)]
            counts = f"{len(names)} changes, {count[KILLED]} killed, {count[OUT_OF_TIME]} out of time"
            say(f"{file.relative_to(MUTANTS)}: {counts}, {len(survivors)} survived", *survivors)

    def is_selected(self, name):
        return any(fnmatch(name, f"apps.oauth.{pattern}") for pattern in self.patterns)

    def begin(self, name, tests):
        """Run the tests on a mutant in a process of its own, which writes the name of the first that fails."""
        reader, writer = os.pipe()
        if pid := os.fork():
            os.close(writer)
            return pid, reader
        os.environ["MUTANT_UNDER_TEST"] = name
        self.session.config.pluginmanager.unregister(name="terminalreporter")
        items = [self.items[test] for test in tests]
        for item, following in zip_longest(items, items[1:]):
            signal.alarm(int(20 + 10 * self.seconds.get(item.nodeid, 0)))  # ends the process
            self.session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.session.testsfailed:
                os.write(writer, item.nodeid.encode())
                os._exit(KILLED)
        os._exit(SURVIVED if items else NO_TESTS)

    def end(self, pid, reader):
        with os.fdopen(reader) as pipe:
            killer = pipe.read()
        status = os.waitpid(pid, 0)[1]
        return OUT_OF_TIME if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), killer


def function_of(name):
    return name.partition("__mutmut_")[0]


def case_changes(file):
    """Return a function: does a mutant change only upper and lower case? mutmut has better changes for such texts."""
    text = file.read_text()
    source = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
            source[node.name] = re.sub("__mutmut_[0-9a-z]+", "", ast.get_source_segment(text, node)).lower()

    def changes_case_only(name):
        name = name.rpartition(".")[2]
        return source[name] == source[f"{function_of(name)}__mutmut_orig"]

    return changes_case_only


say = partial(print, sep="\n    ", file=sys.__stderr__, flush=True)  # pytest captures sys.stdout and sys.stderr


def main(patterns):
    os.chdir(ROOT)
    os.nice(5)
    shutil.rmtree(MUTANTS, ignore_errors=True)
    # Asked for a mutant that does not exist, mutmut makes all of them and finds the tests that reach each function.
    made = subprocess.run(
        [Path(sys.executable).with_name("mutmut"), "run", "--max-children", "1", "none"], capture_output=True, text=True
    )
    if not (MUTANTS / "mutmut-stats.json").exists():
        return made.stdout[-5000:] + made.stderr
    arguments = [*config().pytest_add_cli_args, *config().pytest_add_cli_args_test_selection]
    os.chdir(MUTANTS)
    sys.path.insert(0, str(MUTANTS))
    os.environ["MUTANT_UNDER_TEST"] = ""
    return pytest.main(["--rootdir=.", "-q", *arguments], plugins=[Runner(patterns)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
