"""Messages are in Chinese or English, as the browser asks."""

import re

import pytest
from django.utils.translation import override

from apps.oauth.errors import ERRORS
from apps.oauth.language import translate
from tests.tools.processes import ROOT

CHINESE = {"code": "bind_token_missing", "message": "缺少绑定凭证，请再点一次 QQ 登录。"}
ENGLISH = CHINESE | {"message": "The proof of your QQ login is missing. Please click QQ login once more."}


@pytest.mark.parametrize(
    ("accept_language", "expected"),
    [
        ("", CHINESE),
        ("zh-CN,zh;q=0.9,en;q=0.8", CHINESE),
        ("en-US,en;q=0.9,zh;q=0.8", ENGLISH),
        ("en-GB", ENGLISH),
        ("fr,en;q=0.5", ENGLISH),
        ("fr", CHINESE),
        ("x" * 5000, CHINESE),
        ("zh;q=0.1,en;q=0.2", ENGLISH),
        ("en;q=0", CHINESE),
    ],
)
@pytest.mark.parametrize("shop_language", ["zh-hans", "en-us"])
def test_message_is_in_the_users_language(browser, shop, accept_language, expected, shop_language):
    shop.LANGUAGE_CODE = shop_language
    assert browser.bind({}, headers={"accept-language": accept_language}).json() == expected


@pytest.mark.parametrize(("accept_language", "is_english"), [("zh", False), ("en", True)])
def test_field_errors_are_in_the_users_language(browser, form, accept_language, is_english):
    answer = browser.bind(form | {"mobile": ""}, headers={"accept-language": accept_language}).json()
    assert answer["message"] == answer["mobile"][0]
    assert answer["message"].isascii() == is_english


def test_every_message_has_a_translation():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "apps/oauth").rglob("*.py"))
    messages = re.findall(r'\b_\(\s*"([^"]*[\u4e00-\u9fff][^"]*)"\s*\)', sources)
    assert len(messages) > 20
    with override("en"):
        assert [text for text in messages if not translate(text).isascii()] == []


def test_texts_that_both_apps_have_are_translated_alike():
    """Django merges the catalogues: one app's translation replaces the other's."""
    oauth, users = (read_catalogue(app) for app in ("oauth", "users"))
    shared = oauth.keys() & users.keys()
    assert len(shared) > 5
    assert {text: oauth[text] for text in shared} == {text: users[text] for text in shared}


def read_catalogue(app):
    text = (ROOT / f"apps/{app}/locale/en/LC_MESSAGES/django.po").read_text("utf-8")
    return dict(re.findall(r'^msgid "(.+)"\nmsgstr "(.+)"$', text, re.M))


@pytest.mark.parametrize("language", ["", ".zh"])
def test_every_error_is_documented_with_its_status(language):
    pages = (ROOT / f"README{language}.md", ROOT / f"docs/http-api{language}.md")
    lines = "\n".join(page.read_text("utf-8") for page in pages if page.exists()).splitlines()
    for code, (status, _) in ERRORS.items():
        assert [line for line in lines if line.startswith("|") and f"`{code}`" in line and str(status) in line], code
