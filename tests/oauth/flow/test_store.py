"""What is kept of a login, where, and for how long: as little as a login needs."""

import os
import re
import time

import pytest
from django.apps import apps
from django.core import serializers
from django.core.cache import cache

from apps.oauth.flow import KEPT
from apps.oauth.models import OAuthQQUser
from tests.conftest import query_of

DAY = 24 * 60 * 60


def cached():
    """Every entry of the cache with the seconds it has left, on local memory or on Redis."""
    if hasattr(cache, "_expire_info"):
        now = time.time()
        return {
            key: (value, None if cache._expire_info[key] is None else cache._expire_info[key] - now)
            for key, value in cache._cache.items()
        }
    client = cache._cache.get_client()
    return {key.decode(): (client.get(key), client.ttl(key)) for key in client.scan_iter()}


def stored():
    return "".join(serializers.serialize("json", model.objects.all()) for model in apps.get_models())


@pytest.mark.parametrize("unionid", [False, True])
def test_qqs_tokens_and_codes_are_gone_once_it_has_said_who_it_is(browser, shop, form, qq, unionid):
    shop.QQ_UNIONID = unionid
    assert browser.bind(form).status_code == 200
    browser.collect(browser.arrive())
    assert len(qq.requests("/oauth2.0/token")) == 2
    tokens = [request["query"]["access_token"] for request in qq.requests("/oauth2.0/me")]
    assert len(tokens) == unionid
    codes = [request["query"]["code"] for request in qq.requests("/oauth2.0/token")]
    for secret in (*tokens, *codes):
        assert all(secret.encode() not in value for value, _ in cached().values())
        assert secret not in stored()


def test_a_code_that_no_page_asks_about_is_kept_for_minutes(browser):
    back = browser.sign_in()
    browser.come_back(back)
    code = query_of(back)["code"]
    (left,) = (left for value, left in cached().values() if code.encode() in value)
    assert left <= 4 * 60
    assert code not in stored()


def test_a_code_that_went_to_qq_is_remembered_by_its_keyed_sha256(browser):
    browser.collect(browser.arrive())
    (key,) = (key for key in cached() if "qq-login:code:" in key)
    assert re.fullmatch("[0-9a-f]{64}", key.rpartition(":")[2])


def test_nothing_is_kept_without_an_end(browser, form):
    browser.bind(form | {"password": ""})
    browser.bind(form)
    browser.collect(browser.arrive())
    browser.bind({})
    entries = cached()
    assert len(entries) > 10
    for key, (_, left) in entries.items():
        assert left is not None, key
        is_of_a_flow = "qq-login" in key and not re.search(":limit:|:password:", key)
        assert 0 <= left <= (KEPT if is_of_a_flow else DAY), key


def test_no_failed_login_leaves_a_row(browser, form, qq, django_user_model):
    before = stored()
    qq.behave(token={"fault": "error", "number": 100020, "times": 1})
    browser.collect(browser.arrive())
    browser.bind(form | {"password": ""})
    assert stored() == before


def test_of_qq_only_the_two_ids_are_stored(db):
    fields = {field.name for field in OAuthQQUser._meta.get_fields()}
    assert fields == {"id", "user", "openid", "unionid", "create_time", "update_time"}
    assert OAuthQQUser._meta.get_field("openid").unique
    assert not OAuthQQUser._meta.get_field("user").unique  # an account may have several QQs


@pytest.mark.servers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads, which is what is tried
def test_a_process_that_is_forked_off_has_a_connection_of_its_own(db):
    cache.set("mine", 1)
    ours = cache._cache.get_client().connection
    child = os.fork()
    if not child:
        os._exit(int(cache._cache.get_client().connection is ours))
    assert os.waitpid(child, 0)[1] == 0
    assert cache._cache.get_client().connection is ours
