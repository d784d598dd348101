"""How fast it is, beside others: `make bench`. README.md here tells what the figures mean.

A whole run writes results.json and renews the tables and plots of README.md; a choice only prints its tables.
"""

import argparse
import json
import signal
import time
from contextlib import ExitStack
from typing import NoReturn

from benchmarks import report, servers
from benchmarks.bench import Bench
from benchmarks.scenarios import SCENARIOS

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure, beside others, how fast a login is.")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="may be given several times")
    parser.add_argument("--seconds", type=float, default=6, help="a window's length (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small tables, short failures: to see that it works")
    parser.add_argument("--report", action="store_true", help="measure nothing, only renew README.md")
    arguments = parser.parse_args()
    if arguments.report:
        report.renew(json.loads(report.RESULTS.read_text()))
        return

    for ending in ENDINGS:
        signal.signal(ending, stop)
    servers.install()
    with ExitStack() as stack:
        bench = Bench(stack, seconds=arguments.seconds, rounds=arguments.rounds, quick=arguments.quick)
        results = {"machine": bench.describe(), "options": vars(arguments)}
        for name in arguments.only or SCENARIOS:
            begun = time.monotonic()
            print(f"\n== {name}: {SCENARIOS[name].__doc__}", flush=True)
            results[name] = SCENARIOS[name](bench)
            print(report.SECTIONS[name](results[name]), f"({time.monotonic() - begun:.0f} s)", sep="\n", flush=True)
    if not arguments.only:
        report.RESULTS.write_text(json.dumps(results, indent=1))
        if not arguments.quick:
            report.renew(results)


def stop(*_: object) -> NoReturn:
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)  # a second one must not cut short what the first one began
    raise SystemExit("Stopped.")


if __name__ == "__main__":
    main()
