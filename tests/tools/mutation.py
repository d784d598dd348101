"""Mutation testing: change apps/oauth in one small way after another, and see that a test fails each time.

    make mutation                          all that pyproject.toml names: about 2,000 changes, an hour of one core
    make mutation ARGS="flow 'qq.*unique*'"  some: all of flow.py, and of qq.py what is done to unique()

At the end it names the changes that no test minds; `.venv/bin/mutmut show NAME` prints one. Those that nobody need mind
are explained in mutants.md.

mutmut makes the changes and finds out which tests reach each function. Its own runner would import and collect the
tests anew for each change, which costs more than running them: here one process collects them and forks for each.
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
MUTANTS = ROOT / "mutants"  # what mutmut makes: the project, each function with all its changes beside it
JOBS = 2
KILLED, LIVED, NO_TESTS, OUT_OF_TIME = 1, 0, 33, 36  # as mutmut notes them


class Runner:
    """In place of pytest's loop over the tests: a process for each mutant, which ends at the first test that fails."""

    def __init__(self, patterns):
        self.patterns = [pattern if "." in pattern else f"{pattern}.*" for pattern in patterns or ["*"]]
        stats = json.loads((MUTANTS / "mutmut-stats.json").read_text())
        self.reached_by, self.seconds = stats["tests_by_mangled_function_name"], stats["duration_by_test"]
        self.killers = defaultdict(Counter)  # of a function: its next mutant meets them first

    def pytest_runtestloop(self, session):
        self.session, self.items = session, {item.nodeid: item for item in session.items}
        code, failed = self.end(*self.begin("", self.items))
        if code != LIVED:
            pytest.exit(f"Without any change: {failed or 'out of time'}", 1)
        for meta in sorted((MUTANTS / "apps" / "oauth").glob("*.meta")):
            self.run_file(meta)
        return True

    def run_file(self, meta):
        noted = json.loads(meta.read_text())
        codes, file = noted["exit_code_by_key"], meta.with_suffix("")
        is_respelled = respelled(file)
        names = [name for name in codes if self.is_asked_for(name) and not is_respelled(name)]
        running = []
        for name in [*names, *[None] * JOBS]:
            if running and (name is None or len(running) == JOBS):
                done, *process = running.pop(0)
                codes[done], killer = self.end(*process)
                self.killers[function_of(done)][killer] += 1
                meta.write_text(json.dumps(noted))
            if name:
                tests = [test for test in self.reached_by.get(function_of(name), ()) if test in self.items]
                killers = self.killers[function_of(name)]
                tests.sort(key=lambda test: (-killers[test], self.seconds[test]))
                running.append((name, *self.begin(name, tests)))
        if names:
            count = Counter(codes[name] for name in names)
            lived = [name for name in names if codes[name] in (LIVED, NO_TESTS)]
            counted = f"{len(names)} changes, {count[KILLED]} failed, {count[OUT_OF_TIME]} out of time"
            say(f"{file.name}: {counted}, {len(lived)} lived", *lived)

    def is_asked_for(self, name):
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
        os._exit(LIVED if items else NO_TESTS)

    def end(self, pid, reader):
        with os.fdopen(reader) as pipe:
            killer = pipe.read()
        status = os.waitpid(pid, 0)[1]
        return OUT_OF_TIME if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), killer


def function_of(name):
    return name.partition("__mutmut_")[0]


def respelled(file):
    """Return whether a mutant differs by capital letters only: mutmut changes such a text in another way too."""
    text = file.read_text()
    source = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
            source[node.name] = re.sub("__mutmut_[0-9a-z]+", "", ast.get_source_segment(text, node)).lower()

    def is_respelled(name):
        name = name.rpartition(".")[2]
        return source[name] == source[f"{function_of(name)}__mutmut_orig"]

    return is_respelled


# Past pytest, which reads what is printed.
say = partial(print, sep="\n    ", file=sys.__stderr__, flush=True)


def main(patterns):
    os.chdir(ROOT)
    os.nice(5)  # what else the machine does goes first
    shutil.rmtree(MUTANTS, ignore_errors=True)
    # Asked for one mutant it makes them all, and finds out which tests reach each.
    make = [
        Path(sys.executable).with_name("mutmut"),
        "run",
        "--max-children",
        "1",
        "apps.oauth.flow.x_flow_id__mutmut_1",
    ]
    made = subprocess.run(make, capture_output=True, text=True)
    if made.returncode:
        return made.stdout[-5000:] + made.stderr
    arguments = [*config().pytest_add_cli_args, *config().pytest_add_cli_args_test_selection]
    os.chdir(MUTANTS)
    sys.path.insert(0, str(MUTANTS))
    os.environ["MUTANT_UNDER_TEST"] = ""
    return pytest.main(["--rootdir=.", "-q", *arguments], plugins=[Runner(patterns)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
