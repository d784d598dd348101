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
from tests.tools import processes
from tests.tools.processes import Visitor
from tests.tools.remote_users import PASSWORD, at_once, database_of_the_tests, shop_and_qq
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
    return {openid: count for openid, count in balance.items() if count}


@requirement("7.5", "15.8", "15.10")
def test_no_binding_is_lost_or_doubled_and_every_answer_is_explained(two_processes, transactional_db):
    shops, qq = two_processes
    logins = {}
    for number, name in enumerate(ACCOUNTS):
        get_user_model().objects.create_user(name, password=PASSWORD, mobile=f"1390000000{number}")
        form = {"username": name, "password": PASSWORD}
        token = Visitor().post(f"{shops[0].url}/authorizations/", form).json()["token"]
        logins[name] = {"Authorization": f"JWT {token}"}
    calls = Round(shops, qq, logins)
    for _ in range(ROUNDS):
        done = at_once(calls.link, calls.link, calls.bind, calls.unlink, calls.unlink, calls.log_in)
        for call, answer in done:
            body = answer.json() if answer.body else {}
            assert (answer.status, body.get("code")) in EXPLAINED[call], (call, answer.body)
        stored = [hash_openid(binding.openid) for binding in OAuthQQUser.objects.all()]
        assert len(stored) == len(set(stored))
    assert Counter(stored) == read_audit(shops)
