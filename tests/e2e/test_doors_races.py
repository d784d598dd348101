"""Links, unlinks, forms and logins of few people and few accounts at the same moment, in two processes of one shop.

DOORS_ROUNDS=1000 runs more rounds than the suite does.
"""

import json
import os
import random
import secrets
from collections import Counter

import pytest
from django.conf import settings
from django.contrib.auth import authenticate, get_user_model
from rest_framework import serializers

from apps.oauth.audit import hash_openid
from apps.oauth.models import OAuthQQUser
from apps.users.sms_serializers import ConfirmSerializer
from tests.tools import processes
from tests.tools.processes import Visitor
from tests.tools.remote_users import PASSWORD, at_once, database_of_the_tests, each_at_once, shop_and_qq, tally
from tests.tools.requirements import requirement

pytestmark = pytest.mark.servers

ROUNDS = int(os.environ.get("DOORS_ROUNDS", "200"))
PEOPLE, ACCOUNTS = ("小明", "李思思"), ("zhang3", "li4", "wang5")
EXPLAINED = {
    "link": {(201, None), (200, None), (400, "already_bound")},
    "unlink": {(204, None), (404, "not_found")},
    "bind": {(200, None), (400, "already_bound")},
    "log in": {(200, None)},
}


class PasswordForm(serializers.Serializer):
    username = serializers.CharField()
    password = serializers.CharField()

    def save(self):
        return get_user_model().objects.select_for_update().get(pk=self.user.pk)

    def validate(self, attrs):
        self.user = authenticate(**attrs)
        if self.user is None:
            raise serializers.ValidationError("wrong")
        return attrs


class PinOrPassword(ConfirmSerializer):
    def validate(self, attrs):
        return attrs if self.initial_data.get("pin") == "0000" else super().validate(attrs)


@pytest.fixture(scope="module")
def two_processes(django_db_setup, tmp_path_factory):
    var = tmp_path_factory.mktemp("var")
    environ = {"DATABASE_URL": database_of_the_tests(), "DJANGO_SETTINGS_MODULE": "tests.e2e.doors_settings"}
    environ |= {"QQ_UNIONID": "True", "LOG_FORMAT": "json", "SECRET_KEY": settings.SECRET_KEY}
    with shop_and_qq(var, **environ) as (first, qq), processes.shop(var, qq, **environ) as second:
        yield (first, second), qq


class Round:
    """Calls of one round, at either process. Each has an address, and so limits, of its own."""

    def __init__(self, shops, qq, logins):
        self.shops, self.qq, self.logins = shops, qq, logins

    def url(self, path):
        return f"{random.choice(self.shops).url}/oauth/qq/{path}"

    def enter(self, purpose):
        """Log a person in at QQ, and at the door of the phone app or the mini program."""
        person, key = random.choice(PEOPLE), secrets.token_urlsafe(32)
        if random.random() < 0.5:
            path, proof = "app/", {"access_token": self.qq.app_token(person)}
        else:
            path, proof = "mini/", {"code": self.qq.mini_code(person)}
        return Visitor().post(self.url(path), {**proof, "key": key, "purpose": purpose}), key

    def log_in(self):
        return "log in", self.enter("login")[0]

    def link(self):
        answer, key = self.enter("bind")
        if answer.status == 200:
            form = {"access_token": answer.json()["access_token"], "key": key, "password": PASSWORD}
            login = self.logins[random.choice(ACCOUNTS)]
            answer = Visitor().post(self.url("bindings/"), form, **login)
        return "link", answer

    def bind(self):
        answer, key = self.enter("login")
        token = answer.json().get("access_token")
        if token:
            form = {"access_token": token, "key": key, "username": random.choice(ACCOUNTS), "password": PASSWORD}
            answer = Visitor().post(self.url("users/"), form)
        return "bind", answer

    def unlink(self):
        """Remove a QQ, whichever account it is of: of another's, it is not there."""
        login = self.logins[random.choice(ACCOUNTS)]
        listed = Visitor().get(self.url("bindings/"), **login).json()
        id = listed[0]["id"] if listed else 1
        return "unlink", Visitor().delete(self.url(f"bindings/{id}/"), {"password": PASSWORD}, **login)


def read_audit(shops):
    """Return {hash of an openid: how often it was bound, less how often it was removed}."""
    balance = Counter()
    for log in shops[0].var.glob("shop-*.log"):  # of both
        lines = (json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{"))
        for line in (line for line in lines if line["logger"] == "meiduo.audit" and line["outcome"] == "ok"):
            is_new = line["message"] in ("bind", "link") and line.get("reason") != "repeated"
            balance[line.get("openid")] += is_new - (line["message"] == "unbind")
    return balance


@pytest.fixture
def shops(two_processes, transactional_db):
    return two_processes[0]


@pytest.fixture
def qq(two_processes):
    two_processes[1].reset()
    return two_processes[1]


@pytest.fixture
def logins(shops):
    """{username: the header of the user's login} of new accounts."""
    logins = {}
    for number, name in enumerate(ACCOUNTS):
        get_user_model().objects.create_user(name, password=PASSWORD, mobile=f"1390000000{number}")
        form = {"username": name, "password": PASSWORD}
        token = Visitor().post(f"{shops[0].url}/authorizations/", form).json()["token"]
        logins[name] = {"Authorization": f"JWT {token}"}
    return logins


@requirement("7.5", "15.8", "15.10")
def test_no_binding_is_lost_or_doubled_and_every_answer_is_explained(shops, qq, logins):
    calls, before = Round(shops, qq, logins), read_audit(shops)
    for _ in range(ROUNDS):
        done = at_once(calls.link, calls.link, calls.bind, calls.unlink, calls.unlink, calls.log_in)
        for call, answer in done:
            body = answer.json() if answer.body else {}
            assert (answer.status, body.get("code")) in EXPLAINED[call], (call, answer.body)
        stored = [hash_openid(binding.openid) for binding in OAuthQQUser.objects.all()]
        assert len(stored) == len(set(stored))
    recorded = read_audit(shops)
    recorded.subtract(before)
    assert Counter(stored) == recorded


@requirement("15.2")
def test_one_call_sent_six_times_at_once_asks_qq_once(shops, qq):
    for path, form in (("app/", {"access_token": qq.app_token("小明")}), ("mini/", {"code": qq.mini_code("小明")})):
        form["key"] = secrets.token_urlsafe(32)
        urls = [f"{shop.url}/oauth/qq/{path}" for shop in shops] * 3
        answers = each_at_once(lambda url, form=form: Visitor().post(url, form), urls)
        assert [(answer.status, answer.json().keys()) for answer in answers] == [(200, {"access_token"})] * 6
    assert (len(qq.requests("/oauth2.0/me")), len(qq.requests("/sns/jscode2session"))) == (1, 1)


@requirement("15.4")
def test_one_code_with_six_keys_at_once_logs_in_once(shops, qq):
    code = qq.mini_code("小明")
    urls = [f"{shop.url}/oauth/qq/mini/" for shop in shops] * 3
    answers = each_at_once(lambda url: Visitor().post(url, {"code": code, "key": secrets.token_urlsafe(32)}), urls)
    assert tally(answers) == {(200, None): 1, (400, "qq_rejected"): 5}
    assert len(qq.requests("/sns/jscode2session")) == 1


@requirement("15.6")
def test_5_of_100_wrong_confirmations_at_once_are_checked_from_whatever_address(shops, logins):
    user = get_user_model().objects.get(username="li4")
    binding = OAuthQQUser.objects.create(user=user, openid="A" * 32)
    urls = [f"{shop.url}/oauth/qq/bindings/{binding.pk}/" for shop in shops] * 50
    answers = each_at_once(lambda url: Visitor().delete(url, {"password": "wrong"}, **logins["li4"]), urls)
    assert tally(answers) == {(400, "invalid"): 5, (429, "throttled"): 95}
    assert Visitor().delete(urls[0], {"password": PASSWORD}, **logins["li4"]).status == 429
    assert OAuthQQUser.objects.get() == binding


@requirement("15.8")
def test_of_two_last_qqs_removed_at_once_one_stays(shops, logins):
    user = get_user_model().objects.get(username="li4")
    get_user_model().objects.filter(pk=user.pk).update(password="!")  # unusable; the login token stays valid
    for _ in range(20):
        pair = [OAuthQQUser.objects.create(user=user, openid=letter * 32) for letter in "AB"]
        urls = [f"{shop.url}/oauth/qq/bindings/{binding.pk}/" for shop, binding in zip(shops, pair, strict=True)]
        answers = each_at_once(lambda url: Visitor().delete(url, {"pin": "0000"}, **logins["li4"]), urls)
        assert Counter(answer.status for answer in answers) == {204: 1, 400: 1}
        OAuthQQUser.objects.get().delete()
