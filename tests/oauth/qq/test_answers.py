"""The parser of QQ's answers."""

import time

import pytest

from apps.oauth.qq import QQRejected, QQUnavailable
from apps.oauth.qq.answers import parse_answer
from tests.tools.requirements import requirement

from .conftest import OPENID

IDENTITY = {"client_id": "101000001", "openid": OPENID}
JSON = f'{{"client_id":"101000001",\n"openid":"{OPENID}"}}'


@requirement("3.5")
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        *((text, IDENTITY) for text in (JSON, f" \n{JSON} ", f"client_id=101000001&openid={OPENID}\n")),
        *((text, IDENTITY) for text in (f"callback( {JSON} );\n", f"callback({JSON})", f" \r\ncallback( {JSON} ) ; ")),
        *((text, IDENTITY) for text in (f"{JSON[:-1]},\n}}", f"callback(\n{JSON[:-1]} , }}\n)")),  # as in QQ's wiki
        *((text, {}) for text in ("", " ")),
        ('<a href="x">', {"<a href": '"x">'}),  # happens to be a form, but has no field of ours
    ],
    ids=range(11),
)
def test_json_jsonp_and_forms_are_parsed(text, answer):
    assert parse_answer(text) == answer


@requirement("3.5", "8.5")
@pytest.mark.parametrize(
    "text",
    [
        "null", "[]", '"text"', "7", "{", "{}}", '{"a":1,', '{"a":1,,}', '{"a":[1,]}', '{"a":1} x', '\ufeff{"a":1}',
        '\xa0{"a":1}', '{"openid":1,"openid":2}', '{"openid":{"b":1,"b":2}}', "a=1&a=2", "a=1&&b=2", "a",
        "callback( );", "callback( {} ); callback( {} );", 'callback( {"a":1}', 'callback( {"a":1,,} );',
        'callback( ["a"] );', 'Callback( {"a":1} );', "<html><body>502 Bad Gateway</body></html>",
        "{" * 5000, '{"a":' * 5000, "[" * 5000, '{"a":NaN}', 'callback( {"a":[Infinity]} );', '{"a":-Infinity}',
        '{"error":true}', '{"error":null}', '{"error":"x"}', '{"error":[1]}', '{"error":' + "9" * 5000 + "}", "error=",
        "callback( {} )" + " " * 64_000 + "x",  # a backtracking pattern would take minutes
    ],
)  # fmt: skip
def test_anything_else_is_unreadable(text):
    began = time.process_time()
    with pytest.raises(QQUnavailable):
        parse_answer(text)
    assert time.process_time() - began < 1


@requirement("3.5")
@pytest.mark.parametrize(
    "text",
    [
        '{"error":100020}',
        '{"error":"100020"}',
        "error=100020&error_description=x",
        '{"code":100020,"msg":"x"}',
        '{"ret":100020,"msg":"x"}',
        "code=100020&msg=x",
        'callback(\n{\n"error":100020,\n"msg":"x",\n}\n);',
    ],
)
def test_error_counts_in_every_format(text):
    with pytest.raises(QQRejected) as caught:
        parse_answer(text)
    assert caught.value.number == 100020


def test_number_zero_is_no_error():
    assert parse_answer('{"ret":0,"msg":"","openid":"A"}') == {"ret": 0, "msg": "", "openid": "A"}
