"""The parser of QQ's answers."""

import time

import pytest

from apps.oauth.qq import QQRejected, QQUnavailable
from apps.oauth.qq.answers import parse_answer
from tests.tools.requirements import requirement

from .conftest import OPENID


@requirement("3.5")
@pytest.mark.parametrize(
    "text",
    [
        f'{{"client_id":"101000001","openid":"{OPENID}"}}',
        f' \n{{"client_id":"101000001","openid":"{OPENID}"}} ',
        f'callback( {{"client_id":"101000001","openid":"{OPENID}"}} );\n',
        f'callback({{"client_id":"101000001","openid":"{OPENID}"}})',
        f' \r\ncallback( {{"client_id":"101000001",\n"openid":"{OPENID}"}} ) ; ',
        f"client_id=101000001&openid={OPENID}",
        f"client_id=101000001&openid={OPENID}\n",
    ],
)
def test_json_jsonp_and_forms_are_parsed(text):
    assert parse_answer(text) == {"client_id": "101000001", "openid": OPENID}


@requirement("3.5", "8.5")
@pytest.mark.parametrize(
    "text",
    [
        "null", "[]", '"text"', "7", "{", "{}}", '{"a":1,}', '{"a":1} x', '\ufeff{"a":1}', '\xa0{"a":1}',
        '{"openid":1,"openid":2}', '{"openid":{"b":1,"b":2}}', "a=1&a=2", "a=1&&b=2", "a",
        "callback( );", "callback( {} ); callback( {} );", 'callback( {"a":1}', 'callback( {"a":1,} );',
        'callback( ["a"] );', 'Callback( {"a":1} );', "<html><body>502 Bad Gateway</body></html>",
        "{" * 5000, '{"a":' * 5000, "[" * 5000, '{"a":NaN}', 'callback( {"a":[Infinity]} );', '{"a":-Infinity}',
        '{"error":true}', '{"error":null}', '{"error":"x"}', '{"error":[1]}', '{"error":' + "9" * 5000 + "}", "error=",
    ],
)  # fmt: skip
def test_anything_else_is_unreadable(text):
    with pytest.raises(QQUnavailable):
        parse_answer(text)


@pytest.mark.parametrize(("text", "answer"), [("", {}), (" ", {}), ('<a href="x">', {"<a href": '"x">'})])
def test_text_that_happens_to_be_a_form_has_no_field_of_ours(text, answer):
    assert parse_answer(text) == answer


def test_blanks_in_an_answer_cost_no_time():
    began = time.process_time()
    with pytest.raises(QQUnavailable):
        parse_answer("callback( {} )" + " " * 64_000 + "x")
    assert time.process_time() - began < 1


@requirement("3.5")
@pytest.mark.parametrize("text", ['{"error":100020}', '{"error":"100020"}', "error=100020&error_description=x"])
def test_an_error_counts_in_every_format(text):
    with pytest.raises(QQRejected):
        parse_answer(text)
