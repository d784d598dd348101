"""`make test-cluster`: the tests of tests/cluster. ARGS="--rounds 1 --rate 5 -k redis" tries less.

The tests of test_faults.py run in three rounds, each on a new cluster: half an hour. Other arguments go to pytest. It
installs what `make test` installs. The last lines show what has passed, and what did not run. The exit code is as that
of `make test`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import packages
from everything import Run, on_signal, stop

FAULTS = "tests/cluster/test_faults.py"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make test-cluster", allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", default="20", help="users a second")
    options, others = parser.parse_known_args(arguments)
    packages.install()
    with tempfile.TemporaryDirectory(prefix="meiduo-cluster-") as folder:
        run = Run(["--show-capture=no", f"--basetemp={folder}/tests", *others], Path(folder))
        chosen = run.arguments
        run.arguments = [*chosen, "tests/cluster", f"--ignore={FAULTS}"]
        run.pytest("Clusters of databases", "cluster")
        run.arguments = [*chosen, FAULTS]
        for number in range(1, options.rounds + 1):
            run.pytest(f"Faults under load, round {number} of {options.rounds}", "cluster", RATE=options.rate)
        return run.summary()


if __name__ == "__main__":
    on_signal(stop)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped.")
