"""Makes tables of the figures, and renews the generated part of README.md."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import plots

FOLDER = Path(__file__).parent
RESULTS, README = FOLDER / "results.json", FOLDER / "README.md"
BEGIN, END = "<!-- results: written by make bench -->\n", "<!-- end of results -->\n"

Figures = dict[str, Any]
STORES = {"system": "the system's", "one": "one certificate"}


def renew(results: Figures) -> None:
    """Rewrite the tables and plots."""
    (FOLDER / "cost.svg").write_text(plots.cost(results["saturated"]), encoding="utf-8")
    (FOLDER / "page.svg").write_text(plots.page(results["page"]), encoding="utf-8")
    (FOLDER / "failing.svg").write_text(plots.failing(results["failing"]), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{README} has no markers around its results"
    parts = [conditions(results), goals(results)]
    parts += [f"### {TITLES[name]}\n\n{SECTIONS[name](results[name])}" for name in SECTIONS if name in results]
    README.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n\n{END}{after}", encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def number(value: float) -> str:
    """Return the number with three significant digits."""
    if value != value:
        return "–"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def spread(values: Sequence[float], unit: str = "") -> str:
    """Return the median, and the minimum and maximum in brackets."""
    middle, least, most = map(number, (statistics.median(values), min(values), max(values)))
    return f"{middle}{unit}" if least == most else f"{middle}{unit} ({least}–{most})"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def counted(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items(), key=lambda each: -each[1]))


def ratios(saturated: Figures, store: str, name: str, to: str = "ours") -> list[float]:
    """Return the CPU of a login of `name`, divided by that of `to`, for each round."""
    return [each[store][name]["cpu_ms"] / each[store][to]["cpu_ms"] for each in saturated["rounds"]]


def conditions(results: Figures) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Taken {machine['time']} on: {machine['CPU']}; load average {machine['load average']} at the beginning; "
        f"{machine['certificates']} certificates in the system's trust store. {versions}."
    )


def goals(results: Figures) -> str:
    """Compare each goal whose scenario has run with what was measured."""
    rows = []

    def row(
        what: str, at_least: float, aim: float, values: Sequence[float], unit: str = "", *, more: bool = False
    ) -> None:
        value = statistics.median(values)
        sign = "≥" if more else "≤"
        reached = [value >= bound if more else value <= bound for bound in (at_least, aim)]
        verdict = "aim" if reached[1] else "yes" if reached[0] else "**no**"
        bounds = [f"{sign} {number(bound)}{unit}" for bound in (at_least, aim)]
        rows.append([what, *bounds, spread(values, unit), verdict])

    if saturated := results.get("saturated"):
        for name, bounds in {
            "tutorial": {"system": (30, 50), "one": (4.4, 6)},
            "peer": {"system": (50, 80), "one": (8.2, 10)},
        }.items():
            for store, (at_least, aim) in bounds.items():
                if title := saturated["titles"].get(name):
                    what = f"CPU of a login, {title} ÷ ours; trusted: {STORES[store]}"
                    row(what, at_least, aim, ratios(saturated, store, name), "×", more=True)
        if "bare" in saturated["titles"]:
            paired = [ratio for store in STORES for ratio in ratios(saturated, store, "ours", "bare")]
            row("CPU of a login, ours ÷ the bare limit", 5, 3, paired, "×")
        calls = [each[store]["ours"]["calls_to_qq"] for each in saturated["rounds"] for store in STORES]
        row("calls to QQ, a login", 1, 1, calls)
    if in_batches := results.get("turns"):
        quartiles = statistics.quantiles(in_turns(in_batches))
        row("CPU of a login, ours ÷ the build before, in turns", 0.85, 0.7, quartiles, "×")
    if binds := results.get("bind"):
        to_before = [each["ours"]["cpu_ms"]["server"] / each["before"]["cpu_ms"]["server"] for each in binds["rounds"]]
        row("CPU of a first login, ours ÷ the build before", 0.25, 0.2, to_before, "×")
    if latency := results.get("latency"):
        half = [each for each in latency["rows"] if (each["title"], each["delay"]) == ("ours", 0.05)]
        for name, bounds in {"p50": (3.5, 2.5), "p99": (20, 10)}.items():
            row(f"added to QQ's 50 ms, half load, {name}", *bounds, [each[f"added_{name}_ms"] for each in half], " ms")
    if slow := results.get("slow"):
        for each in slow["rows"]:
            row(f"QQ at 2 s, {each['title']}: the shop's other pages, p50", 50, 10, [each["probe_p50_ms"]], " ms")
            in_three = [100 * each["in_three_tries"]]
            row(f"QQ at 2 s, {each['title']}: logged in within three tries", 90, 99, in_three, " %", more=True)
    if memory := results.get("memory"):
        *_, half_way, last = (each for each in memory["rows"] if each["title"] == "ours")
        grown = f"{last['Rss'] - half_way['Rss']:+.1f} MB since {half_way['logins']:,}"
        what = f"memory of a worker after {last['logins']:,} logins"
        row(f"{what} ({grown})", 100, 80, [last["Rss"]], " MB")
        row(f"{what}, ours ÷ the build before", 0.8, 0.65, [last["Rss"] / memory["rows"][-1]["Rss"]], "×")
    if growth := results.get("growth"):
        sizes = growth["sizes"]
        to_small = [each["large"]["cpu_ms"] / each["small"]["cpu_ms"] for each in growth["rounds"]]
        row(f"CPU of a login, {sizes['large']:,} bindings ÷ {sizes['small']:,}", 1.15, 1.05, to_small, "×")
    if queries := results.get("queries"):
        for name, bounds in {"login": (1, 1), "bind": (6, 5)}.items():
            row(f"queries, a {name}", *bounds, [count_queries(queries[name])])
    if page := results.get("page"):
        for case in page["cases"]:
            if case["goal"]:
                row(
                    f"QQ's redirect → logged in, ours ÷ the build before; {case['title']}",
                    *case["goal"],
                    waits(case),
                    "×",
                )
        requests = [len(each["ours"]["requests"]) for case in page["cases"] for each in case["rounds"]]
        row("requests of the callback page until logged in, all lines", 4, 3, [max(requests)])
        sizes = [each["ours"]["bytes"] / each["before"]["bytes"] for case in page["cases"] for each in case["rounds"]]
        row("bytes of the callback page, ours ÷ the build before, all lines", 0.6, 0.6, [max(sizes)], "×")
    if suites := results.get("suite"):
        cpu = {each["title"]: each["cpu_seconds"] for each in suites["rows"]}
        row("CPU of `make test`, ours ÷ the build before", 0.8, 0.6, [cpu["ours"] / cpu["the build before"]], "×")
    return table(["what", "at least", "aim", "measured", "reached"], rows) if rows else "none for these scenarios"


def suite(figures: Figures) -> str:
    rows = [
        [each["title"], each["tests"], number(each["cpu_seconds"] / 60), number(each["seconds"] / 60)]
        for each in figures["rows"]
    ]
    return table(["", "tests", "CPU, minutes", "minutes"], rows)


def count_queries(sent: Figures) -> float:
    kinds = ("Com_select", "Com_insert", "Com_update", "Com_delete")
    return round(sum(sent["sql"].get(kind, 0) for kind in kinds), 1)


def ceiling(figures: Figures) -> str:
    rate, cpu = number(figures["logins_per_second"]), number(1000 * figures["cpu_ms"])
    return f"The upstream alone answers {rate} calls a second with {cpu} µs of CPU each."


def queries(figures: Figures) -> str:
    rows = [
        [
            name,
            number(count_queries(sent)),
            ", ".join(
                f"{kind.removeprefix('Com_')} {number(count)}"
                for kind, count in sent["sql"].items()
                if kind != "Questions"
            ),
            ", ".join(f"{command} {number(count)}" for command, count in sent["redis"].items()),
            number(sent["round_trips"].get("redis", 0)),
        ]
        for name, sent in figures.items()
    ]
    return table(["", "queries", "what MariaDB counts", "what Redis counts", "round trips to Redis"], rows)


def saturated(figures: Figures) -> str:
    rows = []
    for store, trusted in STORES.items():
        for name, title in figures["titles"].items():
            rounds = [each[store][name] for each in figures["rounds"]]
            others = [f"{statistics.median(each['busy'][process] for each in rounds):.0%}" for process in OTHERS]
            rows.append(
                [
                    title,
                    trusted,
                    spread(ratios(figures, store, name), "×"),
                    number(statistics.median(each["cpu_ms"] for each in rounds)),
                    number(statistics.median(each["logins_per_second"] for each in rounds)),
                    f"{statistics.median(each['busy']['server'] for each in rounds):.0%}",
                    " ".join(others),
                    count_failures(rounds),
                ]
            )
    head = ["", "trusted", "CPU, to ours", "CPU, ms", "logins/s", "core busy", " / ".join(OTHERS), "not 200"]
    return table(head, rows)


OTHERS = ("upstream", "mariadb", "redis", "load")


def count_failures(rounds: Iterable[Figures]) -> int:
    return sum(count for each in rounds for status, count in each["statuses"].items() if status != "200")


def clients(figures: Figures) -> str:
    rows = [
        [
            each["title"],
            f"{1000 * each['delay']:.0f} ms",
            f"{each['clients']:,}",
            number(each["logins_per_second"]),
            number(each["cpu_ms"]),
            f"{each['busy']['server']:.0%}",
            percent(each["in_three_tries"]),
            counted(each["answers"]),
            number(each["memory"]["Rss"]),
            each["threads"],
        ]
        for each in figures["rows"]
    ]
    head = ["", "QQ takes", "clients", "logins/s", "CPU, ms", "core busy", "in 3 tries", "answers", "MB", "threads"]
    return table(head, rows)


def latency(figures: Figures) -> str:
    rows = [
        [
            each["title"],
            f"{each['calls']} × {1000 * each['delay']:.0f} ms",
            number(each["rate"]),
            number(each["added_p50_ms"]),
            number(each["added_p99_ms"]),
            number(each["p50_ms"]),
            counted(each["statuses"]),
        ]
        for each in figures["rows"]
    ]
    head = ["", "QQ takes", "logins/s", "added, p50, ms", "added, p99, ms", "in all, p50, ms", "answers"]
    return table(head, rows)


def slow(figures: Figures) -> str:
    rows = [
        [
            each["title"],
            number(each["logins_per_second"]),
            percent(each["in_three_tries"]),
            percent(each["in_the_end"]),
            f"{number(each['probe_p50_ms'])} / {number(each['probe_p99_ms'])} / {number(each['probe_max_ms'])}",
            counted(each["answers"]),
            counted(each["outcomes"]),
            f"{each['busy']['server']:.0%}",
        ]
        for each in figures["rows"]
    ]
    head = [
        "users",
        "logins/s",
        "in 3 tries",
        "in 6",
        "other pages, p50 / p99 / max, ms",
        "answers",
        "outcomes",
        "core",
    ]
    return table(head, rows)


def failing(figures: Figures) -> str:
    return table(
        ["", ""],
        [
            ["logins/s before", number(figures["usual_rate"])],
            ["calls to QQ in the minute it failed", f"{figures['calls_while_failing']:,}"],
            ["from QQ's recovery to the first login", f"{number(figures['first_login_after'])} s"],
            ["to 90 % of the earlier logins/s", f"{number(figures['at_90_percent_after'])} s"],
            *([f"other pages meanwhile, {each}", f"{number(figures[f'probe_{each}_ms'])} ms"] for each in PROBED),
        ],
    )


PROBED = ("p50", "p99", "max")


def workers(figures: Figures) -> str:
    rows = []
    for count in ("1", "2"):
        rounds = [{str(key): value for key, value in each.items()} for each in figures["rounds"]]
        paired = [each[count]["logins_per_second"] / each["1"]["logins_per_second"] for each in rounds]
        rates = [each[count]["logins_per_second"] for each in rounds]
        busy = statistics.median(each[count]["busy"]["server"] for each in rounds)
        rows.append([count, spread(rates), spread(paired, "×"), f"{busy:.0%}"])
    return table(["workers", "logins/s", "to one", "of a core"], rows)


def bind(figures: Figures) -> str:
    rows = []
    for name, title in figures["titles"].items():
        rounds = [each[name] for each in figures["rounds"]]
        statuses: Counter[str] = Counter()
        for each in rounds:
            statuses.update(each["statuses"])
        rows.append(
            [
                title,
                number(statistics.median(each["binds_per_second"] for each in rounds)),
                spread([each["cpu_ms"]["server"] for each in rounds]),
                spread(
                    [
                        each["cpu_ms"]["server"] / each_round["ours"]["cpu_ms"]["server"]
                        for each, each_round in zip(rounds, figures["rounds"], strict=True)
                    ],
                    "×",
                ),
                number(statistics.median(each["password_ms"] for each in rounds)),
                spread([each["rest_ms"] for each in rounds]),
                number(statistics.median(each["cpu_ms"]["mariadb"] for each in rounds)),
                counted(statuses),
            ]
        )
    head = ["", "binds/s", "CPU, ms", "to ours", "password check, ms", "the rest, ms", "MariaDB, ms", "answers"]
    return table(head, rows)


def memory(figures: Figures) -> str:
    rows = [
        [each["title"], f"{each['logins']:,}", number(each["Rss"]), number(each["Pss"]), each["threads"]]
        for each in figures["rows"]
    ]
    return table(["", "logins", "RSS, MB", "PSS, MB", "threads"], rows)


def growth(figures: Figures) -> str:
    rows = []
    for what, title in {
        "cpu_ms": "CPU of a login, ms",
        "mariadb_cpu_ms": "MariaDB's CPU of a login, ms",
        "light_p50_ms": "p50 at 50 logins/s, ms",
    }.items():
        small, large = ([each[size][what] for each in figures["rounds"]] for size in ("small", "large"))
        paired = [after / before for before, after in zip(small, large, strict=True)]
        rows.append([title, *(number(statistics.median(each)) for each in (small, large)), spread(paired, "×")])
    return table(["bindings", *(f"{rows:,}" for rows in figures["sizes"].values()), "ratio"], rows)


def profile(figures: Figures) -> str:
    ours, before = ([each[name] for each in figures["rounds"]] for name in ("ours", "before"))
    rows = [
        [
            part,
            spread([each[part] for each in ours]),
            percent(statistics.median(each[part] / each["whole"] for each in ours)),
            spread([each[part] for each in before]),
        ]
        for part in ours[0]
    ]
    paired = [after["whole"] / earlier["whole"] for after, earlier in zip(ours, before, strict=True)]
    parts = table(["", "µs of CPU a login", "of the whole", "the build before, µs"], rows)
    return f"{parts}\n\nThe whole, to the build before: {spread(paired, '×')}."


def turns(figures: Figures) -> str:
    ours, before = ([each[name] for each in figures["rounds"]] for name in ("ours", "before"))
    low, middle, high = statistics.quantiles(in_turns(figures))
    return (
        f"A login took {number(statistics.median(ours))} µs of CPU, in the build before"
        f" {number(statistics.median(before))} µs. The median ratio of {len(ours)} pairs of batches is"
        f" {number(middle)}×; half of them are between {number(low)}× and {number(high)}×."
    )


def page(figures: Figures) -> str:
    rows = []
    for case in figures["cases"]:
        cells = [case["title"], spread(waits(case), "×")]
        for name in ("ours", "before"):
            rounds = [each[name] for each in case["rounds"]]
            cells.append(spread([1000 * each["seconds"] for each in rounds]))
            cells.append(number(statistics.median(len(each["requests"]) for each in rounds)))
            cells.append(number(statistics.median(each["bytes"] for each in rounds)))
        rows.append(cells)
    shops = [f"{title}{what}" for title in ("", "before: ") for what in ("ms", "requests", "bytes")]
    return table(["line, protocol, browser", "to the build before", *shops], rows)


def waits(case: Figures) -> list[float]:
    """Return our time from QQ's redirect to the login, divided by that of the build before, for each round."""
    return [each["ours"]["seconds"] / each["before"]["seconds"] for each in case["rounds"]]


def in_turns(figures: Figures) -> list[float]:
    return [each["ours"] / each["before"] for each in figures["rounds"]]


SECTIONS: dict[str, Callable[[Figures], str]] = {
    each.__name__: each
    for each in (
        saturated,
        ceiling,
        clients,
        latency,
        slow,
        failing,
        profile,
        turns,
        workers,
        bind,
        queries,
        memory,
        growth,
        page,
        suite,
    )
}
TITLES = {
    "saturated": "One core, QQ answering at once",
    "ceiling": "The upstream's own limit",
    "clients": "A thousand clients",
    "latency": "Half load",
    "slow": "QQ is slow: 2 s",
    "failing": "QQ fails for a minute",
    "profile": "Where the time goes",
    "turns": "The build before, in turns",
    "workers": "Workers",
    "bind": "First logins",
    "queries": "Queries of a login",
    "memory": "Memory",
    "growth": "Ten million bindings",
    "page": "The callback page, over slow lines",
    "suite": "All tests",
}
