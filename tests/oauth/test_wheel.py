"""What `pip install` gives another shop."""

import gettext
import re
from importlib.metadata import Distribution

import pytest

from tests.tools.processes import ROOT

APP = ROOT / "apps/oauth"
VERSION = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[1]


@pytest.fixture
def package(installed_wheel):
    return installed_wheel / "meiduo_qq_login"


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_it_is_the_app_to_the_last_file_under_a_name_of_its_own(installed_wheel, package):
    assert files(package) == files(APP)
    assert all((package / name).read_bytes() == (APP / name).read_bytes() for name in files(APP))
    assert {path.name for path in installed_wheel.iterdir()} == {package.name, f"{package.name}-{VERSION}.dist-info"}


def test_its_version_is_that_of_the_changelog_and_it_brings_what_it_needs(installed_wheel):
    (distribution,) = Distribution.discover(path=[str(installed_wheel)])
    assert (distribution.metadata["Name"], distribution.version) == ("meiduo-qq-login", VERSION)
    needed = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in distribution.requires}
    assert needed == {"django", "djangorestframework", "httptools", "itsdangerous"}


def test_it_carries_its_licence_and_says_that_it_is_typed(installed_wheel):
    (distribution,) = Distribution.discover(path=[str(installed_wheel)])
    assert distribution.metadata["License-Expression"] == "MIT"
    assert "Typing :: Typed" in distribution.metadata.get_all("Classifier")
    assert distribution.read_text("licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_every_sentence_is_there_in_english(package):
    sentences = {
        sentence
        for path in package.rglob("*.py")
        for sentence in re.findall(r"""\b_\(\s*"([^"]*[\u4e00-\u9fff][^"]*)"\s*\)""", path.read_text(encoding="utf-8"))
    }
    with (package / "locale/en/LC_MESSAGES/django.mo").open("rb") as file:
        english = gettext.GNUTranslations(file)
    assert len(sentences) > 20
    assert [sentence for sentence in sentences if not english.gettext(sentence).isascii()] == []
