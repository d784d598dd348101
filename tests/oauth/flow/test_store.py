"""The stored data of a login: where and for how long."""

import os
import re

import pytest
from django.apps import apps
from django.core import serializers
from django.core.cache import cache

from apps.oauth.models import OAuthQQUser
from tests.conftest import cache_entries, query_of
from tests.tools.requirements import requirement

DAY = 24 * 60 * 60
FLOW = (10 + 12 + 2) * 60  # the cookie's two lives and twice the clock tolerance


def database():
    return "".join(serializers.serialize("json", model.objects.all()) for model in apps.get_models())


@requirement("3.7")
@pytest.mark.parametrize("unionid", [False, True])
def test_codes_and_tokens_are_not_kept_after_the_exchange(browser, shop, form, qq, unionid):
    shop.QQ_UNIONID = unionid
    assert browser.bind(form).status_code == 200
    browser.redeem_code(browser.arrive())
    codes = [request["query"]["code"] for request in qq.requests("/oauth2.0/token")]
    tokens = [request["query"]["access_token"] for request in qq.requests("/oauth2.0/me")]
    assert (len(codes), len(tokens)) == (2, unionid)
    for secret in (*tokens, *codes):
        assert all(secret.encode() not in value for value, _ in cache_entries().values())
        assert secret not in database()


def test_code_is_kept_for_four_minutes_and_once_used_remembered_by_a_keyed_hash(browser):
    address = browser.sign_in()
    sealed, code = browser.come_back(address)["code"], query_of(address)["code"]
    (end,) = (end for value, end in cache_entries().values() if code.encode() in value)
    assert end <= 4 * 60
    assert code not in database()
    browser.redeem_code(sealed)
    (key,) = (key for key in cache_entries() if "qq-login:code:" in key)
    assert re.fullmatch("[0-9a-f]{64}", key.rpartition(":")[2])


@requirement("10.8")
def test_every_cache_entry_ends(browser, form):
    browser.bind(form | {"password": ""})
    browser.bind(form)
    browser.redeem_code(browser.arrive())
    browser.bind({})
    entries = cache_entries()
    assert len(entries) > 10
    limits = {
        key: DAY if re.search(":(limit|password):", key) else FLOW if "qq-login" in key else DAY for key in entries
    }
    assert {key: end for key, (_, end) in entries.items() if end is None or not 0 <= end <= limits[key]} == {}


@requirement("10.8")
def test_failed_login_stores_no_row(browser, form, qq):
    before = database()
    qq.behave(token={"fault": "error", "number": 100020, "times": 1})
    browser.redeem_code(browser.arrive())
    browser.bind(form | {"password": ""})
    assert database() == before


@requirement("3.4", "3.7", "7.4", "10.6")
def test_binding_stores_the_ids_and_a_profile_only(db):
    fields = {field.name for field in OAuthQQUser._meta.get_fields()}
    profile = {"client_id", "nickname", "avatar"}
    assert fields == {"id", "user", "openid", "unionid", "create_time", "update_time"} | profile
    assert OAuthQQUser._meta.get_field("openid").unique
    assert not OAuthQQUser._meta.get_field("user").unique


@pytest.mark.servers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # about forking a process with threads
def test_forked_process_opens_its_own_redis_connection(db):
    cache.set("key", 1)
    connection = cache._cache.get_client().connection
    child = os.fork()
    if not child:
        os._exit(int(cache._cache.get_client().connection is connection))
    assert os.waitpid(child, 0)[1] == 0
    assert cache._cache.get_client().connection is connection
