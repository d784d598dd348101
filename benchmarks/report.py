"""Figures into tables, and into the generated part of README.md."""

import statistics
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
    """Write the tables and plots anew."""
    (FOLDER / "cost.svg").write_text(plots.cost(results["saturated"]), encoding="utf-8")
    (FOLDER / "failing.svg").write_text(plots.failing(results["failing"]), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{README} has lost its marks"
    parts = [conditions(results), targets(results)]
    parts += [f"### {TITLES[name]}\n\n{SECTIONS[name](results[name])}" for name in SECTIONS if name in results]
    README.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n\n{END}{after}", encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def number(value: float) -> str:
    """Three digits that count."""
    if value != value:
        return "–"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def spread(values: Sequence[float], unit: str = "") -> str:
    """The median, and the least and the most."""
    middle, least, most = map(number, (statistics.median(values), min(values), max(values)))
    return f"{middle}{unit}" if least == most else f"{middle}{unit} ({least}–{most})"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def counted(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items(), key=lambda each: -each[1]))


def ratios(saturated: Figures, store: str, name: str, to: str = "ours") -> list[float]:
    """How many times the CPU of `to` `name` took, in each round."""
    return [each[store][name]["cpu_ms"] / each[store][to]["cpu_ms"] for each in saturated["rounds"]]


def conditions(results: Figures) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Taken {machine['time']} on: {machine['CPU']}; load average {machine['load average']} at the beginning; "
        f"{machine['certificates']} certificates in the system's trust store. {versions}."
    )


def targets(results: Figures) -> str:
    """What was to be reached, and what was."""
    saturated, rows = results["saturated"], []

    def row(
        what: str, at_least: float, aim: float, values: Sequence[float], unit: str = "", *, more: bool = False
    ) -> None:
        value = statistics.median(values)
        sign = "≥" if more else "≤"
        reached = [value >= bound if more else value <= bound for bound in (at_least, aim)]
        verdict = "aim" if reached[1] else "yes" if reached[0] else "**no**"
        bounds = [f"{sign} {number(bound)}{unit}" for bound in (at_least, aim)]
        rows.append([what, *bounds, spread(values, unit), verdict])

    for name, title, bounds in (
        ("tutorial", "the tutorial's way", {"system": (30, 50), "one": (4, 6)}),
        ("peer", "rest-social-auth", {"system": (50, 80), "one": (8, 10)}),
    ):
        for store, (at_least, aim) in bounds.items():
            what = f"CPU of a login, {title} ÷ ours; trusted: {STORES[store]}"
            row(what, at_least, aim, ratios(saturated, store, name), "×", more=True)
    to_bare = [ratio for store in STORES for ratio in ratios(saturated, store, "ours", "bare")]
    row("CPU of a login, ours ÷ the bare limit", 5, 3, to_bare, "×")
    half = [each for each in results["latency"]["rows"] if (each["title"], each["delay"]) == ("ours", 0.05)]
    row("added to QQ's 50 ms, half load, p50", 4, 3, [each["added_p50_ms"] for each in half], " ms")
    calls = [each[store]["ours"]["calls_to_qq"] for each in saturated["rounds"] for store in STORES]
    row("calls to QQ, a login", 1, 1, calls)
    for each in results["slow"]["rows"]:
        row(f"QQ at 2 s, {each['title']}: the shop's other pages, p50", 50, 10, [each["probe_p50_ms"]], " ms")
        in_three = [100 * each["in_three_tries"]]
        row(f"QQ at 2 s, {each['title']}: logged in within three tries", 90, 99, in_three, " %", more=True)
    *_, half_way, last = results["memory"]["rows"]
    grown = f"{last['Rss'] - half_way['Rss']:+.1f} MB since {half_way['logins']:,}"
    row(f"memory of a worker after {last['logins']:,} logins ({grown})", 100, 80, [last["Rss"]], " MB")
    sizes = results["growth"]["sizes"]
    to_small = [each["large"]["cpu_ms"] / each["small"]["cpu_ms"] for each in results["growth"]["rounds"]]
    row(f"CPU of a login, {sizes['large']:,} bindings ÷ {sizes['small']:,}", 1.15, 1.05, to_small, "×")
    for name, bounds in {"login": (1, 1), "bind": (6, 5)}.items():
        row(f"queries, a {name}", *bounds, [count_queries(results["queries"][name])])
    return table(["what", "at least", "aim", "measured", "reached"], rows)


def count_queries(asked: Figures) -> float:
    kinds = ("Com_select", "Com_insert", "Com_update", "Com_delete")
    return round(sum(asked["sql"].get(kind, 0) for kind in kinds), 1)


def ceiling(figures: Figures) -> str:
    rate, cpu = number(figures["logins_per_second"]), number(1000 * figures["cpu_ms"])
    return f"The upstream alone answers {rate} calls a second with {cpu} µs of CPU each."


def queries(figures: Figures) -> str:
    rows = [
        [
            name,
            number(count_queries(asked)),
            ", ".join(
                f"{kind.removeprefix('Com_')} {number(count)}"
                for kind, count in asked["sql"].items()
                if kind != "Questions"
            ),
            ", ".join(f"{command} {number(count)}" for command, count in asked["redis"].items()),
            number(asked["round_trips"].get("redis", 0)),
        ]
        for name, asked in figures.items()
    ]
    return table(["", "queries", "what MariaDB counts", "what Redis counts", "round trips to Redis"], rows)


def saturated(figures: Figures) -> str:
    rows = []
    for store, trusted in STORES.items():
        for name, title in figures["titles"].items():
            rounds = [each[store][name] for each in figures["rounds"]]
            others = [f"{statistics.median(each['busy'][whose] for each in rounds):.0%}" for whose in OTHERS]
            rows.append(
                [
                    title,
                    trusted,
                    spread(ratios(figures, store, name), "×"),
                    number(statistics.median(each["cpu_ms"] for each in rounds)),
                    number(statistics.median(each["logins_per_second"] for each in rounds)),
                    f"{statistics.median(each['busy']['server'] for each in rounds):.0%}",
                    " ".join(others),
                    strange(rounds),
                ]
            )
    head = ["", "trusted", "CPU, to ours", "CPU, ms", "logins/s", "core busy", " / ".join(OTHERS), "not 200"]
    return table(head, rows)


OTHERS = ("upstream", "mariadb", "redis", "load")


def strange(rounds: Iterable[Figures]) -> int:
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
    head = ["shoppers", "logins/s", "in 3 tries", "in 6", "other pages, p50 / p99 / max, ms", "answers", "ends", "core"]
    return table(head, rows)


def failing(figures: Figures) -> str:
    return table(
        ["", ""],
        [
            ["logins/s before", number(figures["usual_rate"])],
            ["calls QQ got in the minute it failed", f"{figures['asked_while_failing']:,}"],
            ["from QQ's return to the first login", f"{number(figures['first_login_after'])} s"],
            ["to 90 % of the logins/s of before", f"{number(figures['at_90_percent_after'])} s"],
            *([f"other pages all the while, {each}", f"{number(figures[f'probe_{each}_ms'])} ms"] for each in PROBED),
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
    return table(
        ["binds/s", "CPU, ms", "of it the password's check, ms", "the rest, ms", "MariaDB, ms", "answers"],
        [
            [
                number(figures["binds_per_second"]),
                number(figures["cpu_ms"]["server"]),
                number(figures["password_ms"]),
                number(figures["rest_ms"]),
                number(figures["cpu_ms"]["mariadb"]),
                counted(figures["statuses"]),
            ]
        ],
    )


def memory(figures: Figures) -> str:
    rows = [
        [f"{each['logins']:,}", number(each["Rss"]), number(each["Pss"]), each["threads"]] for each in figures["rows"]
    ]
    return table(["logins", "RSS, MB", "PSS, MB", "threads"], rows)


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
    rounds = figures["rounds"]
    shares = {piece: statistics.median(each[piece] / each["whole"] for each in rounds) for piece in rounds[0]}
    rows = [[piece, spread([each[piece] for each in rounds]), percent(share)] for piece, share in shares.items()]
    return table(["", "µs of CPU a login", "of the whole"], rows)


SECTIONS: dict[str, Callable[[Figures], str]] = {
    each.__name__: each
    for each in (saturated, ceiling, clients, latency, slow, failing, profile, workers, bind, queries, memory, growth)
}
TITLES = {
    "saturated": "One core, QQ answering at once",
    "ceiling": "The upstream's own limit",
    "clients": "A thousand clients",
    "latency": "Half load",
    "slow": "QQ is slow: 2 s",
    "failing": "QQ fails for a minute",
    "profile": "Where the time goes",
    "workers": "Workers",
    "bind": "First logins",
    "queries": "What a login asks",
    "memory": "Memory",
    "growth": "Ten million bindings",
}
