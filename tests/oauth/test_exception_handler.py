"""Errors of the shop's serializer get the same shape as ours."""

from socket import gaierror

import pytest
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, UnreadablePostError
from redis.exceptions import RedisError
from rest_framework.exceptions import APIException, Throttled, ValidationError
from rest_framework.serializers import CharField, Serializer

from apps.oauth.signals import qq_bound, qq_logged_in
from apps.users.tokens import login_payload
from tests.conftest import error_of


class ServiceDown(APIException):
    status_code = 503


class TooManySMS(Throttled):
    error_code = "too_many_sms"


class Busy(APIException):
    status_code = 503
    default_code = "qq_busy"  # one of ours


CASES = {
    "throttled": (Throttled(wait=6.2), 429, "throttled", "操作太频繁，请稍后再试。"),
    "down": (ServiceDown("短信服务不可用"), 503, "invalid", "短信服务不可用"),
    "own code": (TooManySMS(detail="今天的短信已用完"), 429, "too_many_sms", "今天的短信已用完"),
    "our code": (Busy("人太多"), 503, "qq_busy", "人太多"),
    "list": (ValidationError(["第一句", "第二句"]), 400, "invalid", "第一句"),
    "named": (ValidationError({"message": ["字段的一句"], "code": ["x"]}), 400, "invalid", "字段的一句"),
    "nested": (ValidationError({"mobile": {"deep": ["里面的一句"]}}), 400, "invalid", "里面的一句"),
    "empty": (ValidationError({}), 400, "invalid", "请求内容有误，请检查后重试。"),
    "too big": (RequestDataTooBig(), 413, "invalid", "请求内容太大。"),
    "closed": (UnreadablePostError("reset"), 400, "invalid", "请求内容有误，请检查后重试。"),
    "404": (Http404("没有这个号码"), 404, "not_found", "未找到。"),
    "403": (PermissionDenied("不行"), 403, "invalid", "您没有执行该操作的权限。"),
}
BUGS = {"redis": RedisError("gone"), "timeout": TimeoutError("slow"), "network": gaierror("unknown host")}


class Raising(Serializer):
    mobile = CharField()

    def validate(self, attrs):
        if attrs["mobile"] in BUGS:
            raise BUGS[attrs["mobile"]]
        if attrs["mobile"] != "empty":
            raise CASES[attrs["mobile"]][0]
        return attrs

    def save(self):
        raise CASES["empty"][0]


@pytest.mark.undocumented
@pytest.mark.parametrize("case", CASES)
def test_error_of_the_shops_serializer_has_message_and_code(browser, shop, case):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Raising"
    response = browser.bind({"access_token": browser.get_bind_token(), "mobile": case})
    _, *expected = CASES[case]
    body = response.json()
    assert [response.status_code, body["code"], body["message"]] == expected
    assert response.headers.get("Retry-After") == ("7" if case == "throttled" else None)


broken = []  # holds the error that the shop's payload function or receiver raises


def fail(*args, **kwargs):
    if broken:
        raise broken[0]


def payload(user, request):
    fail()
    return login_payload(user, request)


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
@pytest.mark.parametrize("place", [payload, qq_bound, qq_logged_in, user_logged_in], ids=["payload", "1", "2", "3"])
def test_cache_or_network_error_after_the_bind_is_the_shops_and_the_binding_stays(
    browser, form, shop, connect, monkeypatch, caplog, set_rates, place, bug
):
    set_rates(qq_bind_failed="1/hour")
    shop.QQ_LOGIN_PAYLOAD = f"{__name__}.payload"
    monkeypatch.setattr(f"{__name__}.broken", [bug])
    if place is not payload:
        shop.QQ_LOGIN_PAYLOAD = "apps.users.tokens.login_payload"
        connect(fail, place)
    browser.client.raise_request_exception = False
    assert error_of(browser.bind(form)) == (500, "server_error")
    (report,) = (record for record in caplog.records if record.exc_info)
    assert (report.levelname, report.exc_info[1]) == ("ERROR", bug)
    broken.clear()
    failed = browser.bind({"access_token": browser.get_bind_token("小红")})
    assert failed.status_code == 400  # not 429: the bind before was no failed try
    user_id = browser.bind(form).json()["user_id"]
    assert browser.redeem_code(browser.arrive()).json()["user_id"] == user_id


@pytest.mark.parametrize("bug", BUGS)
def test_cache_or_network_error_of_the_shops_serializer_is_not_hidden(browser, shop, bug):
    shop.QQ_ACCOUNT_SERIALIZER = f"{__name__}.Raising"
    with pytest.raises(type(BUGS[bug])):
        browser.bind({"access_token": browser.get_bind_token(), "mobile": bug})
