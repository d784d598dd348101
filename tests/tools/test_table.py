"""The table of README.md beside this file: every requirement has its tests, and every test named there exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
SECTIONS = {1: 12, 2: 5, 3: 7, 4: 8, 5: 8, 6: 9, 7: 10, 8: 10, 9: 14, 10: 11}  # and their numbers of rows
LIMITS = ("start", "callback", "bind, failed", "bind, all", "SMS send", "SMS check")


def rows():
    lines = (TESTS / "README.md").read_text("utf-8").splitlines()
    return {line.split(" | ")[0].strip("| "): line for line in lines if re.match(r"\| [0-9]", line)}


def test_every_requirement_has_its_row():
    numbered = [f"{section}.{row}" for section, size in SECTIONS.items() for row in range(1, size + 1)]
    assert list(rows()) == [*numbered, *(f"11 {limit}" for limit in LIMITS)]


def test_every_test_that_a_row_names_exists():
    for row, line in rows().items():
        named = re.findall(r"`(\w+)::(\w+)`", line)
        assert named, row
        for file, name in named:
            trees = [ast.parse(path.read_text("utf-8")) for path in TESTS.rglob(f"test_{file}.py")]
            functions = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in functions, f"{row} names {file}::{name}"
