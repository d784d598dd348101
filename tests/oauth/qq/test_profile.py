"""get_user_info: what is taken from QQ's answer."""

import json

import pytest

from apps.oauth.qq import Profile, ProfileQQ, QQError, QQIdentity
from apps.oauth.qq.profile import choose_avatar, clean_nickname
from tests.tools.requirements import requirement

from .conftest import OPENID, get_code, make_client

EK = "http://thirdqq.qlogo.cn/ek_qqapp/AbCdEfGhIjKlMnOpQrStUv/100"
G = "http://thirdqq.qlogo.cn/g?b=oidb&k=AbCdEf&s=100&t=1557635654"


@pytest.fixture
def identity(qq):
    with make_client(qq).exchange() as exchange:
        return exchange.identify(get_code(qq))


@pytest.fixture
def profiles(qq):
    return ProfileQQ(api_url=qq.url)


def test_profile_has_nickname_and_the_larger_avatar(qq, profiles, identity):
    qq.behave(nickname="小企鹅🐧")
    profile = profiles.get_profile(identity)
    assert (profile.nickname, profile.avatar.partition("&k=")[0]) == ("小企鹅🐧", "https://thirdqq.qlogo.cn/g?b=oidb")
    assert "s=100" in profile.avatar
    (request,) = qq.requests("/user/get_user_info")
    asked = {"access_token": identity.access_token, "oauth_consumer_key": qq.client_id, "openid": identity.openid}
    assert request["query"] == asked


@pytest.mark.parametrize("absent", ["absent", "empty"])
def test_small_avatar_is_taken_if_there_is_no_larger_one(qq, profiles, identity, absent):
    qq.behave(figureurl_qq_2=absent)
    assert "s=40" in profiles.get_profile(identity).avatar


@requirement("15.12")
@pytest.mark.parametrize(("generation", "is_taken"), [("qzapp", False), ("qqapp", False), ("thirdqq_ek", True)])
def test_avatar_with_the_openid_in_it_is_not_taken(qq, profiles, identity, generation, is_taken):
    qq.behave(avatar=generation)
    profile = profiles.get_profile(identity)
    assert bool(profile.avatar) is is_taken
    assert identity.openid not in profile.avatar


@pytest.mark.parametrize("number", [1002, -1, 100013, 100030, 100031, 1001])
def test_refusal_is_an_error_of_its_number(qq, profiles, identity, number):
    qq.behave(get_user_info={"fault": "error", "number": number})
    with pytest.raises(QQError) as caught:
        profiles.get_profile(identity)
    assert caught.value.number == number


def test_answer_of_any_shape_is_read(qq, profiles, identity):
    for answer in ({}, {"nickname": None, "figureurl_qq_2": 7}, {"nickname": ["a"]}, {"is_lost": 1, "nickname": ""}):
        qq.behave(get_user_info={"fault": "body", "body": json.dumps(answer)})
        assert profiles.get_profile(identity) == Profile()


def test_failures_do_not_stop_logins(qq, identity):
    profiles, client = ProfileQQ(api_url=qq.url, timeout=0.2), make_client(qq)
    qq.behave(get_user_info={"fault": "reset"})
    for _ in range(8):
        with pytest.raises(QQError):
            profiles.get_profile(identity)
    assert client.identify(get_code(qq)) == QQIdentity(openid=identity.openid, client_id=qq.client_id)


@requirement("15.11")
@pytest.mark.parametrize(
    ("nickname", "shown"),
    [
        ("小明", "小明"),
        ("👨‍👩‍👧", "👨‍👩‍👧"),
        ("  a \t b\n", "a b"),
        ("a\x00b\x1b[31mc", "ab[31mc"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\u2066a\u2069\u200f\ufeff", "a"),
        ("a\u2028b", "ab"),
        ("\ud800x", "x"),
        ("<b>x</b>", "<b>x</b>"),
        ("车" * 10_000, "车" * 64),
        (" ", ""),
        (".", "."),
    ],
)
def test_nickname_is_one_short_line_of_text(nickname, shown):
    assert clean_nickname(nickname) == shown


@requirement("15.12")
@pytest.mark.parametrize(
    ("url", "taken"),
    [
        (EK, EK.replace("http:", "https:")),
        (G, G.replace("http:", "https:")),
        (EK.replace("http:", "https:"), EK.replace("http:", "https:")),
        (f"http://thirdqq.qlogo.cn/qqapp/101000001/{OPENID}/100", ""),
        (f"http://thirdqq.qlogo.cn/g?o={OPENID.lower()}", ""),
        ("http://qlogo.cn.evil.example/a", ""),
        ("http://evilqlogo.cn/a", ""),
        ("http://127.0.0.1/a", ""),
        ("http://user@thirdqq.qlogo.cn/a", ""),
        ("http://thirdqq.qlogo.cn:8080/a", ""),
        ("http://thirdqq.qlogo.cn:x/a", ""),
        ("javascript:alert(1)//thirdqq.qlogo.cn", ""),
        ("//thirdqq.qlogo.cn/a", ""),
        ("http://[", ""),
        ("http://thirdqq.qlogo.cn/车", ""),
        (f"http://thirdqq.qlogo.cn/{'x' * 488}", ""),  # 512 characters, and one more with https
        (f"http://thirdqq.qlogo.cn/{'x' * 487}", f"https://thirdqq.qlogo.cn/{'x' * 487}"),
        (f"http://thirdqq.qlogo.cn/%{ord(OPENID[0]):x}{OPENID[1:]}/100", ""),
        ("http://thirdqq.qlogo.cn\\@evil.example/", ""),
        ('http://thirdqq.qlogo.cn/"onerror=x', ""),
        ("http://thirdqq.qlogo.cn/\x00", ""),
        ("", ""),
    ],
)
def test_avatar_is_an_https_address_of_qqs(url, taken):
    assert choose_avatar({"figureurl_qq_2": url}, OPENID) == taken
