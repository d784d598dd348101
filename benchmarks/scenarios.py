"""The scenarios, one function each. Each returns the figures for the tables of report.py."""

import json
import os
import random
import re
import secrets
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.bench import CORES, PASSWORD, PERSONS, SERVER_CORES, Bench, Server, Window, percentile
from benchmarks.load import parameter_of, post
from benchmarks.profiled import PARTS
from benchmarks.servers import BARE, BEFORE, OURS, OURS_128, PEER, TUTORIAL, bare_with_redis, python_of
from benchmarks.upstream import new_code
from tests.tools.processes import ROOT, Shop, Visitor

Figures = dict[str, Any]

RIVALS = ("before", "bare", "bare_redis", "tutorial", "peer")
PROBE = "/usernames/sample_1/count/"  # another page of the shop, which queries the database
LONGEST_FLOW = 75  # seconds: the longest Retry-After, and the calls before and after it
SIZES = {"small": 10_000, "large": 10_000_000}
MILESTONES = (0, 10_000, 25_000, 50_000, 100_000)


def ceiling(bench: Bench) -> Figures:
    """The upstream alone, called by the load itself."""
    upstream = Server(replace(BARE, kind="qq"), bench.qq_port, bench.upstream.pid, bench.folder)
    window = bench.window(upstream, clients=64, cores=SERVER_CORES, ca_file=str(bench.ca_file))
    return window.figures()


@cache  # saturated() needs a figure of it
def queries(bench: Bench) -> Figures:
    """The statements and commands that a login and a bind send to MariaDB and Redis."""

    def read_counters() -> dict[str, Counter[str]]:
        reads = int(measure.redis_info(bench.cache, "stats")["total_reads_processed"])
        return {
            "sql": measure.statements(bench.database),
            "redis": measure.redis_commands(bench.cache),
            "round_trips": Counter(redis=reads),
        }

    def count_per_call(server: Server, **job: Any) -> Figures:
        with bench.load(server, clients=1, **job) as load:
            before = [read_counters(), read_counters()]  # their difference is what counting itself sends
            load.send("go")
            assert load.wait_for("done")
            after = read_counters()
            calls = len(load.stop()["calls"])
        found = {}
        for kind, counted in after.items():
            counting = before[1][kind] - before[0][kind]
            counted = counted - before[1][kind] - counting
            found[kind] = {name: round(count / calls, 2) for name, count in counted.items() if count >= 0.05 * calls}
        return found

    with bench.serve(OURS) as server:
        bench.use_up(server, flows=1000, clients=32)  # each thread opens its connections
        return {
            "login": count_per_call(server, flows=200),
            "bind": count_per_call(server, requests=prepare_binds(bench, server, 20)),
        }


def saturated(bench: Bench) -> Figures:
    """As many logins as one core can do while QQ answers immediately. Both trust stores, all contestants."""
    contestants = [OURS, *(each for each in (BEFORE, BARE, TUTORIAL, PEER) if each.name in bench.rivals)]
    if "bare_redis" in bench.rivals:
        contestants.append(bare_with_redis(round(queries(bench)["login"]["round_trips"]["redis"])))
    rounds = []
    with ExitStack() as stack:
        # All run all the time, so that they can take turns. An idle server costs next to nothing.
        servers = [
            (store, stack.enter_context(bench.serve(contestant, store=store)))
            for store in bench.stores
            for contestant in contestants
        ]
        for _ in range(bench.rounds):
            figures: dict[str, Figures] = {store: {} for store in bench.stores}
            for store, server in random.sample(servers, len(servers)):
                is_slow = server.contestant.calls > 1
                # Few clients where a login takes long: logins that overlap the window's edges blur the result.
                window = bench.window(
                    server, clients=4 if is_slow else 32, seconds=bench.seconds * (2 if is_slow else 1)
                )
                figures[store][server.contestant.name] = window.figures()
            rounds.append(figures)
    return {"rounds": rounds, "titles": {each.name: each.title for each in contestants}}


def clients(bench: Bench) -> Figures:
    """A thousand users at once while QQ takes 50 and 200 ms."""
    rows = []
    for contestant in (OURS, OURS_128, BARE, TUTORIAL, PEER):
        with bench.serve(contestant) as server:
            for delay in (0.05, 0.2):
                bench.set_upstream(delay=delay)
                # A thread of the others is busy until its login is done: more clients would only queue.
                count = 1000 if contestant.calls == 1 else contestant.concurrency
                window = bench.window(server, clients=count, warm_up=4)
                rows.append(
                    {
                        "title": contestant.title,
                        "delay": delay,
                        "clients": count,
                        **window.figures(),
                        **outcomes(window),
                        "memory": measure.memory(server.worker),
                        "threads": measure.threads(server.worker),
                    }
                )
    bench.set_upstream(delay=0)
    return {"rows": rows}


def latency(bench: Bench) -> Figures:
    """The time that a login takes in addition to QQ's own, at half of what the server can do."""
    rows = []
    for contestant in (OURS, BARE, TUTORIAL, PEER):
        with bench.serve(contestant) as server:
            for delay in (0.05, 0.2):
                bench.set_upstream(delay=delay)
                full = bench.window(server, clients=contestant.concurrency, warm_up=4, seconds=bench.seconds / 2)
                half = bench.window(server, rate=full.rate / 2)
                waited = 1000 * delay * contestant.calls
                figures = half.figures()
                rows.append(
                    {
                        "title": contestant.title,
                        "delay": delay,
                        "calls": contestant.calls,
                        "rate": round(full.rate / 2, 1),
                        "added_p50_ms": round(figures["p50_ms"] - waited, 2),
                        "added_p99_ms": round(figures["p99_ms"] - waited, 2),
                        **figures,
                    }
                )
    bench.set_upstream(delay=0)
    return {"rows": rows}


def slow(bench: Bench) -> Figures:
    """QQ takes 2 s while a thousand users log in and others open the shop's other pages."""
    ways = {
        "a thousand at any time": {"clients": 1000},
        "a thousand within a minute": {"rate": 1000 / 60},
    }
    rows = []
    bench.set_upstream(delay=2)
    with bench.serve(OURS) as server:
        for title, job in ways.items():
            # The mix of first and repeated calls is stable once the first flows have had all their tries.
            warm_up, seconds = (30, 10) if bench.quick else (LONGEST_FLOW, 30)
            window = bench.window(server, warm_up=warm_up, seconds=seconds, flows=0, probe=PROBE, **job)
            probes = window.latencies("probes")
            rows.append(
                {
                    "title": title,
                    **outcomes(window),
                    "logins_per_second": round(window.rate, 1),
                    "probe_p50_ms": percentile(probes, 50),
                    "probe_p99_ms": percentile(probes, 99),
                    "probe_max_ms": percentile(probes, 100),
                    "probe_statuses": Counter(str(probe[2]) for probe in window.inside("probes")),
                    "busy": window.figures()["busy"],
                }
            )
    bench.set_upstream(delay=0)
    return {"rows": rows}


def outcomes(window: Window) -> Figures:
    """Return the results of the flows that ended in the window."""
    flows = window.inside("flows")
    ended_well = [flow for flow in flows if flow[3] == "ok"]
    return {
        "flows": len(flows),
        "in_three_tries": round(sum(flow[2] <= 3 for flow in ended_well) / max(len(flows), 1), 4),
        "in_the_end": round(len(ended_well) / max(len(flows), 1), 4),
        "outcomes": Counter(flow[3] for flow in flows),
        "answers": Counter(str(call[2]) for call in window.inside("calls")),
    }


def failing(bench: Bench) -> Figures:
    """QQ fails for a minute, first with status 502, then by resetting connections, and recovers."""
    before, failing, after = (4, 12, 40) if bench.quick else (10, 60, 45)  # seconds
    failed_before = bench.set_upstream(delay=0.05)["failed"]
    with bench.serve(OURS) as server, bench.load(server, rate=100, probe=PROBE) as load:
        load.send("go")
        begin = time.monotonic()
        time.sleep(before)
        fails = time.monotonic()
        bench.set_upstream(failing="502")
        time.sleep(failing / 2)
        bench.set_upstream(failing="reset")
        time.sleep(failing / 2)
        back = time.monotonic()
        counted = bench.set_upstream(failing="")
        time.sleep(after)
        records = load.stop()
    bench.set_upstream(delay=0)

    logins = sorted(end for _, end, _, outcome in records["flows"] if outcome == "ok")
    usual = sum(begin + 1 < end < fails for end in logins) / (before - 1)

    def find_recovery() -> float:
        """Return the time at which three seconds of logins first reached 90 % of the usual rate."""
        ends = (end for end in logins if end > back + 3)
        return next((end for end in ends if sum(end - 3 < each <= end for each in logins) >= 2.7 * usual), float("nan"))

    def get_probes(start: float, end: float) -> list[float]:
        # A probe without an answer counts as having waited until the load ended.
        return [(answered or back + after) - sent for sent, answered, _ in records["probes"] if start <= sent < end]

    seconds = []
    for second in range(int(before + failing + after)):
        start = begin + second
        ended = Counter(outcome for _, end, _, outcome in records["flows"] if start <= end < start + 1)
        seconds.append({"outcomes": ended, "probe_max_ms": percentile(get_probes(start, start + 1), 100)})
    probes = get_probes(begin, back + after)
    return {
        "seconds": seconds,
        "fails_at": round(fails - begin, 2),
        "resets_at": round(fails + failing / 2 - begin, 2),
        "back_at": round(back - begin, 2),
        "usual_rate": round(usual, 1),
        "calls_while_failing": counted["failed"] - failed_before,
        "first_login_after": round(next((end - back for end in logins if end > back), float("nan")), 2),
        "at_90_percent_after": round(find_recovery() - back, 2),
        "probe_p50_ms": percentile(probes, 50),
        "probe_p99_ms": percentile(probes, 99),
        "probe_max_ms": percentile(probes, 100),
    }


def growth(bench: Bench) -> Figures:
    """A login with 10 thousand and with 10 million bindings in the table."""
    sizes = {"small": 10_000, "large": 200_000} if bench.quick else SIZES
    measure.sql(bench.database, f"SET GLOBAL innodb_buffer_pool_size = {256 << 20 if bench.quick else 4 << 30}")
    begin = time.monotonic()
    for name, rows in sizes.items():
        bench.prepare_database(OURS, name, rows)
    filling = time.monotonic() - begin
    rounds = []
    with ExitStack() as stack:
        servers = [(name, stack.enter_context(bench.serve(OURS, database=name))) for name in sizes]
        for _ in range(max(bench.rounds, 3)):
            figures = {}
            for name, server in random.sample(servers, len(servers)):
                full = bench.window(server, clients=32, persons=sizes[name])
                light = bench.window(server, rate=50, persons=sizes[name])
                figures[name] = {
                    "cpu_ms": full.cpu_ms(),
                    "mariadb_cpu_ms": full.cpu_ms("mariadb"),
                    "light_p50_ms": light.figures()["p50_ms"],
                }
            rounds.append(figures)
    return {"sizes": sizes, "rounds": rounds, "filling_seconds": round(filling)}


def bind(bench: Bench) -> Figures:
    """First logins: the form's password is checked, which is slow on purpose, and the binding is stored."""
    program = (
        "import time; from django.contrib.auth.hashers import check_password as check, make_password;"
        "hashed = make_password('x'); begin = time.process_time(); [check('x', hashed) for _ in range(5)];"
        "print((time.process_time() - begin) / 5)"
    )
    count = 16 if bench.quick else 64
    rounds = []
    with ExitStack() as stack:
        servers = [stack.enter_context(bench.serve(contestant)) for contestant in (OURS, BEFORE)]
        for _ in range(bench.rounds):
            figures = {}
            for server in random.sample(servers, len(servers)):
                password_ms = 1000 * float(bench.run_program(program, server.contestant))
                window = bench.use_up(server, requests=prepare_binds(bench, server, count), clients=8)
                cpu_ms = {process: round(1000 * used / count, 3) for process, used in window.cpu.items()}
                figures[server.contestant.name] = {
                    "statuses": window.figures()["statuses"],
                    "binds_per_second": round(count / window.seconds, 2),
                    "cpu_ms": cpu_ms,
                    "password_ms": round(password_ms, 1),
                    "rest_ms": round(cpu_ms["server"] - password_ms, 1),
                }
            rounds.append(figures)
    return {"rounds": rounds, "titles": {each.name: each.title for each in (OURS, BEFORE)}}


def prepare_binds(bench: Bench, server: Server, count: int) -> list[str]:
    """Bring unbound QQ accounts of existing users up to the form; return the calls that send it."""
    shop = Shop(server.url, server.var, None)  # type: ignore[arg-type]  only its log of SMS is read
    requests = []
    for user in bench.pick_persons(count):
        mobile = str(13_000_000_000 + user)
        visitor = Visitor()
        state = parameter_of("state", visitor.get(f"{server.url}/oauth/qq/login/?next=/").headers["Location"])
        unbound = PERSONS + 1 + secrets.randbelow(1 << 30)
        answer = visitor.get(f"{server.url}/oauth/qq/callback/?code={new_code(unbound)}&state={state}")
        sealed = parameter_of("code", answer.headers["Location"])
        form = {
            "access_token": visitor.get(f"{server.url}/oauth/qq/users/?code={sealed}").json()["access_token"],
            "mobile": mobile,
            "password": PASSWORD,
            "sms_code": shop.receive_sms_code(visitor, mobile),
        }
        cookie = "; ".join(f"{each.name}={each.value}" for each in visitor.cookies)
        requests.append(post("/oauth/qq/users/", form, visitor.address, cookie).decode())
    return requests


def workers(bench: Bench) -> Figures:
    """One worker and two, which share all cores with everything else that runs."""
    counts = {f"ours_{count}_workers": count for count in (1, 2)}
    rounds = []
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                bench.serve(
                    replace(OURS, name=name, environ=OURS.environ | {"WEB_CONCURRENCY": str(count)}), cores=set(CORES)
                )
            )
            for name, count in counts.items()
        ]
        for _ in range(bench.rounds):
            windows = {server.contestant.name: bench.window(server, clients=64) for server in servers}
            rounds.append({counts[name]: window.figures() for name, window in windows.items()})
    return {"rounds": rounds}


def memory(bench: Bench) -> Figures:
    """A worker's memory as its number of logins grows, ours and the build before."""
    milestones = (0, 1000, 2000) if bench.quick else MILESTONES
    rows = []
    for contestant in (OURS, BEFORE):
        with bench.serve(contestant) as server:
            done = 0
            for milestone in milestones:
                while done < milestone:
                    batch = min(milestone - done, 20_000)  # a sealed code lives two minutes
                    window = bench.use_up(server, flows=batch, clients=40)
                    assert set(window.figures()["statuses"]) == {"200"}, window.figures()["statuses"]
                    done += batch
                used = {**measure.memory(server.worker), "threads": measure.threads(server.worker)}
                rows.append({"title": contestant.title, "logins": done, **used})
    return {"rows": rows}


def profile(bench: Bench) -> Figures:
    """Where the CPU time of a login goes: one process, one thread, no gunicorn."""
    program = f"from benchmarks.profiled import run; run({200 if bench.quick else 1000}, {PERSONS})"
    rounds = []
    for contestant in (OURS, BEFORE):
        bench.prepare_database(contestant)
    for _ in range(bench.rounds):
        figures = {}
        for contestant in random.sample((OURS, BEFORE), 2):
            # The lines before the last are the shop's audit log. The build before brings its own list of parts: the
            # same ones in the same order, under names of its own.
            values = json.loads(bench.run_program(program, contestant).splitlines()[-1]).values()
            figures[contestant.name] = dict(zip(("whole", *PARTS), values, strict=True))
        rounds.append(figures)
    return {"rounds": rounds}


def turns(bench: Bench) -> Figures:
    """A login beside the build before, in short batches that take turns: a noisy machine disturbs both alike."""
    program = f"import runpy; runpy.run_path({str(Path(__file__).with_name('turns.py'))!r})['answer']({PERSONS})"
    rounds = []
    for contestant in (OURS, BEFORE):
        bench.prepare_database(contestant)
    for _ in range(1 if bench.quick else 8):  # anew: two processes of one build may differ by 5 %, as long as they run
        with ExitStack() as stack:
            programs = {each.name: stack.enter_context(bench.start_program(program, each)) for each in (OURS, BEFORE)}
            for batch in range(12 if bench.quick else 60):
                figures = {}
                for name, process in random.sample(list(programs.items()), 2):
                    assert process.stdin
                    assert process.stdout
                    process.stdin.write(f"{batch}\n")
                    process.stdin.flush()
                    # The other lines are the shop's audit log.
                    figures[name] = float(next(line for line in process.stdout if line.startswith("µs")).split()[1])
                if batch >= 6:  # warm by then
                    rounds.append(figures)
    return {"rounds": rounds}


def page(bench: Bench) -> Figures:
    """From QQ's redirect to the login in Chromium, over slow lines, beside the build before."""
    results = bench.folder / "page.json"
    rounds = 1 if bench.quick else 3 * bench.rounds
    command = [python_of("page"), "-m", "benchmarks.page", f"--rounds={rounds}", f"--results={results}"]
    environ = os.environ | {"PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}  # for nginx
    # Chromium, two shops and two lines need all cores, and mostly wait.
    subprocess.run(command, cwd=ROOT, env=environ, check=True, preexec_fn=use_all_cores)
    return {"cases": json.loads(results.read_text())}


def suite(bench: Bench) -> Figures:
    """`make test` of the last commit and of the build before, each in a fresh clone, packages included."""
    rows = []
    for contestant in random.sample((OURS, BEFORE), 2):
        clone, log = bench.folder / f"clone-{contestant.name}", bench.folder / f"tests-{contestant.name}.log"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        subprocess.run(["git", "checkout", "--quiet", contestant.revision or "HEAD"], cwd=clone, check=True)
        command = ["make", "test", *(["ARGS=-k callback"] if bench.quick else [])]
        before = os.times()
        with log.open("w") as output:
            subprocess.run(command, cwd=clone, stdout=output, check=False, preexec_fn=use_all_cores)
        after = os.times()
        cpu = sum(getattr(after, name) - getattr(before, name) for name in ("children_user", "children_system"))
        tests = re.findall(r"^\d+ passed, \d+ failed$", log.read_text(), re.MULTILINE)[-1]
        rows.append(
            {"title": contestant.title, "tests": tests, "cpu_seconds": cpu, "seconds": after.elapsed - before.elapsed}
        )
    return {"rows": rows}


def use_all_cores() -> None:
    os.sched_setaffinity(0, CORES)


SCENARIOS: dict[str, Callable[[Bench], Figures]] = {
    each.__name__: each
    for each in (
        suite,
        ceiling,
        queries,
        saturated,
        clients,
        latency,
        slow,
        failing,
        profile,
        turns,
        workers,
        bind,
        memory,
        growth,
        page,
    )
}
