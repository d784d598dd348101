"""The wheel that `pip install` gives another shop."""

import re
from importlib.metadata import Distribution

from tests.tools.processes import ROOT

APP = ROOT / "apps/oauth"
VERSION = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[1]


def read_files(folder):
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_wheel_contains_exactly_the_app(installed_wheel):
    package = installed_wheel / "meiduo_qq_login"
    assert read_files(package) == read_files(APP)
    assert {path.name for path in installed_wheel.iterdir()} == {package.name, f"{package.name}-{VERSION}.dist-info"}


def test_wheel_has_the_changelogs_version_its_dependencies_and_licence_and_says_that_it_is_typed(installed_wheel):
    (distribution,) = Distribution.discover(path=[str(installed_wheel)])
    assert (distribution.metadata["Name"], distribution.version) == ("meiduo-qq-login", VERSION)
    dependencies = {
        (re.match(r"[\w-]+", dependency)[0].lower(), *re.findall(r"extra == .(\w+)", dependency))
        for dependency in distribution.requires
    }
    needed = {("django",), ("djangorestframework",), ("httptools",), ("itsdangerous",)}
    assert dependencies == needed | {("prometheus-client", "prometheus")}
    assert distribution.metadata["License-Expression"] == "MIT"
    assert "Typing :: Typed" in distribution.metadata.get_all("Classifier")
    assert distribution.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text("utf-8")
