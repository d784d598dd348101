"""A strict parser for QQ's answers. parsers.py uses `read_json` for the bodies sent to our own API."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from .errors import QQError, QQUnavailable, make_error

TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,512}")
OPENID = re.compile(r"[0-9A-Fa-f]{32}")
UNIONID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ERROR_NUMBER = re.compile(r"-?[0-9]{1,9}")

_CALLBACK = re.compile(r"callback\(\s*(\{.*\})\s*\)\s*;?", re.DOTALL)
_LAST_COMMA = re.compile(r",[ \t\r\n]*\}\Z")
NUMBER_NAMES = ("error", "code", "ret")  # the text beside the two older names is `msg`

MakeError = Callable[[int], QQError]


def decode_answer(
    body: bytes, number_names: Sequence[str] = NUMBER_NAMES, make_error: MakeError = make_error
) -> dict[str, Any]:
    """Parse the bytes of an answer, which are UTF-8 whatever its Content-Type says. See parse_answer.

    Raises QQUnavailable for another encoding, but still reads an error number from it, because that is ASCII.
    """
    text = body.decode(errors="replace")
    answer = parse_answer(text, number_names, make_error)
    if text.encode() != body:
        raise QQUnavailable("an answer that is not UTF-8")
    return answer


def parse_answer(
    text: str, number_names: Sequence[str] = NUMBER_NAMES, make_error: MakeError = make_error
) -> dict[str, Any]:
    """Parse an answer in any of QQ's three formats: JSON, `callback( {…} );` or form-encoded.

    QQ may use any of them, whichever was requested. JSON may have a comma after its last value, as QQ's wiki prints it.
    Raises QQUnavailable for text that is not exactly one answer, and the number's own error for an answer with an error
    number, which QQ sends with status 200.
    """
    text = text.strip(" \t\r\n")
    callback = _CALLBACK.fullmatch(text)
    try:
        if callback or text.startswith("{"):
            answer = read_json(_LAST_COMMA.sub("}", callback[1] if callback else text))
        else:
            # An empty text is an empty form to every Python but 3.10.
            form = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if text else []
            answer = refuse_duplicate_keys(form)
    except (ValueError, RecursionError):
        raise QQUnavailable("an unreadable answer") from None
    for name in number_names:
        number = str(answer.get(name, 0))  # 0: no error
        if not ERROR_NUMBER.fullmatch(number):
            raise QQUnavailable("an error without a number")
        if int(number):
            raise make_error(int(number))
    return dict(answer)


def get_field(answer: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    """Return a field that matches the whole pattern; raises QQUnavailable if there is none."""
    value = answer.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise QQUnavailable(f"an answer without a valid {name}")
    return value


def read_json(text: str) -> Any:
    """Parse JSON, but raise ValueError where parsers differ: duplicate keys, NaN, Infinity. Raises RecursionError."""
    return _decoder.decode(text)


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict; raises ValueError for a duplicate key, as parsers differ on which value counts."""
    answer = dict(pairs)
    if len(answer) != len(pairs):
        raise ValueError("duplicate key")
    return answer


# json.loads() would create one at each call.
_decoder = json.JSONDecoder(object_pairs_hook=refuse_duplicate_keys, parse_constant=_reject_constant)
