"""The README's table names the versions that `make test-versions` tries, and the package those that it claims."""

import re
from importlib import import_module

import pytest

from tests.tools.processes import ROOT


@pytest.fixture
def versions(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests/tools")  # as for a script
    return import_module("versions")


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_readme_has_the_table_of_tried_versions(versions, name):
    assert f"\n{versions.make_table()}\n" in (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("name", ["Python", "Django"])
def test_package_claims_the_tried_versions(versions, name):
    claimed = re.findall(rf"{name} :: (\d+\.\d+)\"", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert claimed == list(dict.fromkeys(row.versions[name] for row in versions.ROWS if name in row.versions))
