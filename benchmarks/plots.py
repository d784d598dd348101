"""Draws the plots of README.md and docs/performance.md as SVG, for light and dark pages."""

import math
import statistics
from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

Figures = dict[str, Any]

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .small { font-size: 12px; fill: #59636e; }
  .end { text-anchor: end; } .middle { text-anchor: middle; }
  .line { stroke: #d1d9e0; } .axis { stroke: #818b98; }
  .theirs { fill: #6e7781; stroke: #6e7781; } .ours { fill: #c8161d; stroke: #c8161d; }
  .fails { fill: #bf8700; opacity: .16; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; } .small { fill: #9198a1; } .line { stroke: #3d444d; } .axis { stroke: #6e7681; }
    .theirs { fill: #9198a1; stroke: #9198a1; } .ours { fill: #ff6a69; stroke: #ff6a69; }
    .fails { fill: #d29922; opacity: .22; }
  }
"""
WIDTH = 760


def svg(height: float, title: str, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def text(x: float, y: float, content: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "line", width: float = 1) -> str:
    at = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {at} class="{kind}" stroke-width="{width}"/>'


def cost(saturated: Figures) -> str:
    """CPU of a login on a logarithmic scale: a dot for the median, a bar from minimum to maximum."""
    left, right, row_height = 190, WIDTH - 130, 26
    scale = [0.1, 1, 10, 100]

    def x(cpu_ms: float) -> float:
        low, high = math.log10(scale[0]), math.log10(scale[-1] * 1.5)
        return left + (right - left) * (math.log10(cpu_ms) - low) / (high - low)

    y: float = 60
    rows: list[str] = []
    for store, heading in {"one": "One certificate trusted", "system": "This system's certificates trusted"}.items():
        rows.append(text(12, y, heading, "small"))
        y += row_height
        rounds = [each[store] for each in saturated["rounds"]]
        names = sorted(saturated["titles"], key=lambda name: statistics.median(each[name]["cpu_ms"] for each in rounds))
        for name in names:
            values = [each[name]["cpu_ms"] for each in rounds]
            ratio = statistics.median(each[name]["cpu_ms"] / each["ours"]["cpu_ms"] for each in rounds)
            middle, kind = statistics.median(values), "ours" if name == "ours" else "theirs"
            rows += [
                text(left - 12, y + 4, saturated["titles"][name], "end"),
                line(x(min(values)), y, x(max(values)), y, kind, 4),
                f'<circle cx="{x(middle):.1f}" cy="{y:.1f}" r="5.5" class="{kind}"/>',
                text(x(max(values)) + 12, y + 4, f"{middle:.3g} ms" + ("" if name == "ours" else f" · {ratio:.2g}×")),
            ]
            y += row_height
        y += 14
    bottom = y - 16
    grid = [line(x(tick), 46, x(tick), bottom) for tick in scale]
    grid += [text(x(tick), bottom + 18, f"{tick:g} ms", "small middle") for tick in scale]
    title = "CPU time of one login on the server (logarithmic scale; ×: relative to ours)"
    return svg(bottom + 32, title, [text(12, 26, title, "title"), *grid, *rows])


def page(figures: Figures) -> str:
    """From QQ's redirect to the login: for each line, a bar for ours and one for the build before."""
    left, right, row_height = 250, WIDTH - 130, 22
    waits = {
        (case["title"], name): statistics.median(each[name]["seconds"] for each in case["rounds"])
        for case in figures["cases"]
        for name in ("ours", "before")
    }
    y: float = 60
    rows: list[str] = []
    for case in figures["cases"]:
        rows.append(text(12, y, case["title"].replace(", HTTP", " · HTTP"), "small"))
        y += row_height
        for name, label in {"ours": "ours", "before": "the build before"}.items():
            seconds, kind = waits[case["title"], name], "ours" if name == "ours" else "theirs"
            end = left + (right - left) * seconds / max(waits.values())
            rows += [
                text(left - 12, y + 4, label, "end"),
                line(left, y, end, y, kind, 12),
                text(end + 12, y + 4, f"{1000 * seconds:.0f} ms"),
            ]
            y += row_height
        y += 10
    title = "From QQ's redirect to the login, in Chromium, QQ at 50 ms"
    return svg(y, title, [text(12, 26, title, "title"), *rows])


def failing(figures: Figures) -> str:
    """Logins and the slowest other page, second by second, while QQ fails and recovers."""
    seconds = figures["seconds"]
    left, right = 60, WIDTH - 20
    step = (right - left) / len(seconds)
    top, bottom = 76, 216
    most = 50 * math.ceil(max(each["outcomes"].get("ok", 0) for each in seconds) / 50) or 50
    parts = []
    for begin, end, label in (
        (figures["fails_at"], figures["resets_at"], "status 502"),
        (figures["resets_at"], figures["back_at"], "reset"),
    ):
        x, width = left + step * begin, step * (end - begin)
        parts.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="304" class="fails"/>')
        parts.append(text(x + width / 2, top - 6, label, "small middle"))
    for value in range(0, most + 1, 50):
        y = bottom - (bottom - top) * value / most
        parts += [line(left, y, right, y), text(left - 8, y + 4, f"{value}", "small end")]
    for place, each in enumerate(seconds):
        height = (bottom - top) * each["outcomes"].get("ok", 0) / most
        box = f'x="{left + step * place:.1f}" y="{bottom - height:.1f}" width="{step * 0.8:.1f}" height="{height:.1f}"'
        parts.append(f'<rect {box} class="ours" style="stroke:none"/>')
    parts.append(text(left, 50, "Logins per second"))

    low, high, ticks = 250, 380, [1, 10, 100, 1000]

    def level(milliseconds: float) -> float:
        return high - (high - low) * math.log10(min(max(milliseconds, 1), 1000)) / 3

    for tick in ticks:
        parts += [line(left, level(tick), right, level(tick)), text(left - 8, level(tick) + 4, f"{tick}", "small end")]
    for place, each in enumerate(seconds):
        if each["probe_max_ms"] == each["probe_max_ms"]:
            at = f'cx="{left + step * (place + 0.4):.1f}" cy="{level(each["probe_max_ms"]):.1f}"'
            parts.append(f'<circle {at} r="2.5" class="theirs"/>')
    parts.append(text(left, low - 12, "Another page of the shop: the slowest of ten responses per second, in ms"))
    for second in range(0, len(seconds) + 1, 10):
        parts.append(text(left + step * second, high + 18, f"{second} s", "small middle"))
    title = "QQ fails for a minute and recovers"
    return svg(410, title, [text(12, 26, title, "title"), *parts])
