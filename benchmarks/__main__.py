"""Measures how fast a login is, beside others: `make bench`. README.md explains the results.

A whole run writes results.json and renews the tables and plots of README.md. A choice only prints its tables.
"""

import argparse
import json
import signal
import time
from contextlib import ExitStack
from typing import NoReturn

from benchmarks import report, servers
from benchmarks.bench import Bench
from benchmarks.scenarios import RIVALS, SCENARIOS
from tests.tools.processes import find

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure how fast a login is, beside others.")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="run this scenario; may be repeated")
    parser.add_argument("--against", action="append", choices=RIVALS, help="in `saturated`; may be repeated")
    parser.add_argument("--seconds", type=float, default=6, help="length of one measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small tables, short failures: only shows that it works")
    parser.add_argument("--report", action="store_true", help="measure nothing, renew README.md from results.json")
    arguments = parser.parse_args()
    if arguments.report:
        report.renew(json.loads(report.RESULTS.read_text()))
        return

    names = arguments.only or list(SCENARIOS)
    if missing := [program for program in ("nginx", "chromium") if "page" in names and not find(program)]:
        parser.error(f"{', '.join(missing)}: not installed. As root on Debian, `make test` installs them.")
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    servers.install()
    rivals = tuple(arguments.against or RIVALS)
    with ExitStack() as stack:
        bench = Bench(stack, arguments.seconds, arguments.rounds, quick=arguments.quick, rivals=rivals)
        results = {"machine": bench.describe(), "options": vars(arguments)}
        for name in names:
            begin = time.monotonic()
            print(f"\n== {name}: {SCENARIOS[name].__doc__}", flush=True)
            results[name] = SCENARIOS[name](bench)
            print(report.SECTIONS[name](results[name]), f"({time.monotonic() - begin:.0f} s)", sep="\n", flush=True)
    print("\n== goals", report.goals(results), sep="\n")
    if not arguments.only and not arguments.against:
        report.RESULTS.write_text(json.dumps(results, indent=1))
        if not arguments.quick:
            report.renew(results)


def stop(*_: object) -> NoReturn:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    raise SystemExit("Stopped.")


if __name__ == "__main__":
    main()
