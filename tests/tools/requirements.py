"""The marker that links a test to the requirements, which are the rows of the table in tests/README.md.

`python -m tests.tools.requirements` writes the table's column of tests anew; test_requirements.py fails while it is out
of date.
"""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
README = TESTS / "README.md"
START, END = "<!-- table of requirements: start -->", "<!-- table of requirements: end -->"


def read_rows():
    """Return {row: what the requirement protects against, or the limit that holds} of the table."""
    table = README.read_text("utf-8").partition(START)[2].partition(END)[0]
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.strip().splitlines()]
    return dict(cells[2:])  # without the head


REQUIREMENTS = read_rows()


def requirement(*rows: str) -> pytest.MarkDecorator:
    """Mark a test (or one of its parameters) as a guard of these requirements."""
    unknown = set(rows) - REQUIREMENTS.keys()
    assert not unknown, f"unknown requirements: {sorted(unknown)}"
    return pytest.mark.requirement(*rows)


@cache
def guarding_tests():
    """Return {requirement: [names of its tests]}, found in the source: tests that need a server count too."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                parts = [part for decorator in node.decorator_list for part in ast.walk(decorator)]
                markers = [part for part in parts if getattr(getattr(part, "func", None), "id", "") == "requirement"]
                for row in {row.value for marker in markers for row in marker.args}:
                    found[row].append(f"{path.relative_to(TESTS)}::{node.name}")
    return dict(found)


def readme_with_table():
    lines = ["| row | protects against | tests |", "|---|---|---|"]
    for row, text in REQUIREMENTS.items():
        tests = "<br>".join(f"`{name}`" for name in guarding_tests().get(row, []))
        lines.append(f"| {row} | {text} | {tests} |")
    before, _, rest = README.read_text("utf-8").partition(START)
    return "\n".join([f"{before}{START}", *lines, f"{END}{rest.partition(END)[2]}"])


if __name__ == "__main__":
    README.write_text(readme_with_table(), "utf-8")
