"""The settings that PUT /_standin/behaviour changes, and the faults they can ask for.

`{"token": {"fault": "slow", "seconds": 3, "times": 1}, "errors": "jsonp"}`: a key that is left out stays as it is,
a fault without `times` lasts until it is changed, and `"token": null` ends it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .people import AVATARS

ENDPOINTS = ("token", "me", "get_user_info", "jscode2session")
# Faults that disturb the sending of a real answer: they use up the code of the request.
ANSWERING = ("slow", "drip", "drip_headers", "cut")
# Faults that replace the answer: the code of the request stays valid.
NOT_ANSWERING = ("hang", "empty", "html", "502", "redirect", "reset", "huge", "error", "body")

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(ENDPOINTS),  # the fault of each call; None = answer normally
    "errors": "json",  # the format of errors in calls with fmt=json
    "ignore_need_openid": False,
    "unionid": "granted",
    "client_id": None,  # the client_id in the answer of /me; None = the real one
    "expires_in": 5184000,  # lifetime of a token in seconds
    "expires_in_number": False,  # expires_in as a JSON number; QQ's usual type is a string
    "charset": False,  # add "; charset=utf-8" to the Content-Type
    "online": True,  # False: authorize refuses with 100011
    "app_redirect_uri": "optional",  # for a phone app's code; "required", or "refused": both end in 100010
    "app_code_openid": "given",  # the SDK's openid beside a code; "empty" was seen after a login by QR code
    "nickname": None,  # the nickname in get_user_info; None = the person's own
    "avatar": "thirdqq_g",  # the kind of URL in figureurl_qq…
    "avatar_https": False,  # the scheme of all avatars; QQ's usual one is http
    "figureurl_qq_2": "given",  # the 100-pixel avatar, which not everybody has; "empty" or "absent"
    "user_info_layout": "lines",  # one member a line, or "compact"
    "user_info_token_error": "own",  # the number for a bad token: its own one as in /me, or "1002" for all
    "errcode_on_success": True,  # "errcode": 0 in the answer of jscode2session
    "mini_unionid": "given",  # "absent": the mini program is not bound to the developer's account
}  # also "openid": any JSON value; absent = the person's own


@dataclass(frozen=True, kw_only=True)
class Fault:
    fault: str
    times: int = 0  # number of calls it applies to; 0 = until it is changed
    seconds: float | None = None  # slow: the delay (default 3); drip, drip_headers: per byte (default 1)
    at: int | None = None  # cut: number of body bytes sent (default: half of them)
    number: int = 0
    body: str = ""
    location: str | None = None

    def count_down(self) -> "Fault | None":
        """Return the fault for the next call; None if this call was the last one."""
        return None if self.times == 1 else replace(self, times=max(self.times - 1, 0))


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


Rule = tuple[Callable[[Any], bool], str]
Rules = Mapping[str, Rule]


def _one_of(*values: str) -> Rule:
    return (lambda value: value in values), " or ".join(values)


SETTING_RULES: Rules = {
    **dict.fromkeys(ENDPOINTS, (lambda value: value is None or isinstance(value, dict), "an object or null")),
    "errors": _one_of("json", "jsonp"),
    "ignore_need_openid": (_is_bool, "true or false"),
    "unionid": _one_of("granted", "no_right"),
    "client_id": (lambda value: value is None or isinstance(value, str), "a string or null"),
    "expires_in": (_is_count, "seconds, a whole number"),
    "expires_in_number": (_is_bool, "true or false"),
    "charset": (_is_bool, "true or false"),
    "online": (_is_bool, "true or false"),
    "app_redirect_uri": _one_of("optional", "required", "refused"),
    "app_code_openid": _one_of("given", "empty"),
    "nickname": (lambda value: value is None or isinstance(value, str), "a string or null"),
    "avatar": _one_of(*AVATARS),
    "avatar_https": (_is_bool, "true or false"),
    "figureurl_qq_2": _one_of("given", "empty", "absent"),
    "user_info_layout": _one_of("lines", "compact"),
    "user_info_token_error": _one_of("own", "1002"),
    "errcode_on_success": (_is_bool, "true or false"),
    "mini_unionid": _one_of("given", "absent"),
    "openid": (lambda value: True, "anything"),
}
FAULT_RULES: Rules = {
    "fault": (lambda value: str(value) in ANSWERING + NOT_ANSWERING, " ".join(ANSWERING + NOT_ANSWERING)),
    "times": (_is_count, "a whole number, 0 = no limit"),
    "seconds": (lambda value: type(value) in (int, float) and value >= 0, "a number, 0 or more"),
    "at": (_is_count, "a number of bytes"),
    "number": (lambda value: type(value) is int, "a whole number"),
    "body": (_is_text, "a string"),
    "location": (_is_text, "a string"),
}
REQUIRED_BY_FAULT = {"error": "number", "body": "body"}


def _check(document: Mapping[str, Any], rules: Rules, where: str) -> None:
    for key, value in document.items():
        if key not in rules:
            raise ValueError(f"{where}{key}: unknown key, use one of {' '.join(rules)}")
        is_valid, expected = rules[key]
        if not is_valid(value):
            raise ValueError(f"{where}{key}: must be {expected}")


def _read_fault(endpoint: str, value: Mapping[str, Any] | None) -> Fault | None:
    if not value:
        return None
    _check(value, FAULT_RULES, f"{endpoint}.")
    if "fault" not in value:
        raise ValueError(f"{endpoint}.fault: is missing")
    fault = str(value["fault"])  # 502 may be given as a number
    required = REQUIRED_BY_FAULT.get(fault)
    if required is not None and required not in value:
        raise ValueError(f"{endpoint}.{required}: is missing")
    return Fault(**{**value, "fault": fault})


def read_behaviour(document: object) -> dict[str, Any]:
    """Return the settings of a behaviour document. Raises ValueError naming the first wrong key.

    A new fault replaces the old one as a whole; null or {} ends it.
    """
    if not isinstance(document, dict):
        raise ValueError("the body must be a JSON object")
    _check(document, SETTING_RULES, "")
    return {key: _read_fault(key, value) if key in ENDPOINTS else value for key, value in document.items()}
