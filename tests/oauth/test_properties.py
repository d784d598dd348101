"""Properties that hold for every input: `next`, QQ's answers, signed values. (Requests: e2e/test_fuzz.py.)

Each run uses the same examples; FUZZ_TIMES=50 runs fifty times as many, and different ones each time.
"""

import json
import os
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from itertools import count, product
from string import hexdigits
from urllib.parse import quote, unquote, unquote_plus

import pytest
from ada_url import URL
from django.test import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.oauth.qq import QQError, QQUnavailable
from apps.oauth.qq.answers import parse_answer
from apps.oauth.validation import clean_next
from tests.conftest import MOBILE, PAGE, PASSWORD, Browser, query_of
from tests.oauth.test_validation import FRIENDLY, HOSTILE
from tests.tools.requirements import requirement

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def examples(number):
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),  # examples share the fixtures
    )


# next -----------------------------------------------------------------------------------------------------------------

PAGES = [
    PAGE,
    "https://www.example.com/oauth_callback.html",
    "https://shop.example:8443/",
    "http://127.0.0.1:8000/a?b#c",
    "http://[::1]:8000/page",
]


def decode_uri_component(text):
    """JavaScript's function of that name; ValueError where it throws."""
    for part in text.split("%")[1:]:
        if not (len(part) >= 2 and set(part[:2]) <= set(hexdigits)):
            raise ValueError
    return unquote(text, errors="strict")


def decode_uri(text):
    """JavaScript's decodeURI, which leaves some characters encoded."""
    for char in ";/?:@&=+$,#":
        for code in (f"%{ord(char):02X}", f"%{ord(char):02x}"):
            text = text.replace(code, code.replace("%", "%25"))
    return decode_uri_component(text)


DECODERS = (str, decode_uri, decode_uri_component, unquote, unquote_plus)  # a page uses none, one or two of them


def destinations(path, page):
    """Yield the addresses where a browser may end up if the page goes to `path`, however the page decodes it."""
    for first, second in product(DECODERS, DECODERS):
        try:
            text = second(first(path))
        except ValueError:  # the script throws and the page stays
            continue
        yield URL(text, base=page)


def path_query_fragment(text, page):
    url = URL(text, base=page)
    return url.pathname, url.search, url.hash


def assert_is_safe(value, page):
    path = clean_next(value, page)
    if path == "/":
        return
    origin = URL(page).origin
    assert {url.origin for url in destinations(path, page)} == {origin}, value
    assert path.startswith("/")
    assert len(quote(path, safe="/?:@=,;")) <= 512
    assert clean_next(path, page) == path
    if path != value:  # an address of the shop itself
        assert URL(value).origin == origin
        assert path_query_fragment(path, page) == path_query_fragment(value, page)


PIECES = [
    *"/\\:@?#%.;&=+[] \t\r\n\x00\x0b\x1f\x7f\x85\xa0\xad\u200b\u2028\u2029\u3000\ufeff\ud800\udfff", "//", "/\\", "\\/",
    "///", "/.", "/..", "/./", "/.//", "/..//", "%2f", "%2F", "%5c", "%5C", "%09", "%0a", "%0d%0a", "%00", "%20", "%25",
    "%252f", "%255c", "%25252f", "%3a", "%40", "%", "%2", "%zz", "%u002f", "%c0%af", "%ff", "%e8%bd", "%E8%BD%A6",
    "%ef%bc%8f", "%ed%a0%80", "%e2%80%a8", "http:", "https:", "HTTP:", "ftp:", "javascript:", "data:", "java\tscript:",
    "blob:", "file:", "http://", "https://", "testserver", "www.example.com", "shop.example:8443", "127.0.0.1:8000",
    "[::1]:8000", "[::1", "[", "evil.example", "testserver.evil.example", "eviltestserver", "testserver@evil.example",
    "user:pass@", "TESTSERVER", "testserver.", "testserver:80", ":81", ":x", ":99999", "xn--", "xn--ls8h.example",
    "0x7f.1", "2130706433", "１２７.0.0.1",
    # characters that normalisation changes
    "／", "＼", "⁄", "∕", "。", "．", "：", "＠", "？", "＃", "％", "℀", "㏂", "ﬀ", "ｔestserver", "teſtserver", "K",
    "①", "cart", "/cart", "车", "é", "é", "🙂", "a=1", "alert(1)", "evil",
]  # fmt: skip
texts = st.text() | st.text(st.characters(codec=None, categories=None)) | st.text("/\\:@.%25fFcC# \t\r\n")
pieced = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
beginnings = ["/", "/cart", "/a?b=", "/#", *(URL(page).origin + "/" for page in PAGES)]
rooted = st.builds(str.__add__, st.sampled_from(beginnings), pieced)
known = st.sampled_from([value for value in (*HOSTILE, *FRIENDLY) if len(value) < 1000])


@st.composite
def mutated(draw, originals):
    """A known text with up to three changes."""
    text = draw(originals)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        before, char, after = text[:place], text[place : place + 1], text[place + 1 :]
        changed = [
            before + draw(st.sampled_from(PIECES)) + char + after,
            before + after,
            before + "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogatepass")) + after,
            quote(text, safe="", errors="surrogatepass"),
            before + char * 2 + after,
            text.swapcase(),
        ]
        text = draw(st.sampled_from(changed))
    return text


any_next = texts | pieced | rooted | known | mutated(known)


@requirement("2.1", "2.2")
@examples(1500)
@given(any_next | mutated(rooted), st.sampled_from(PAGES))
def test_next_never_leaves_the_shop_however_the_page_decodes_it(value, page):
    assert_is_safe(value, page)


# QQ's answers ---------------------------------------------------------------------------------------------------------

odd_texts = st.text(st.characters(codec=None, categories=None)) | st.sampled_from(
    ["", " ", "\x00", "\ud800", "\ufeff", "0", "null", "1" * 200, "é", "１２", "a\r\nb", "'\"<>&;#", "../", "%00", "{}"]
)
simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = simple | odd_texts | st.sampled_from([MOBILE, PASSWORD, "123456", "A" * 32, "101000001"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_texts | st.sampled_from("ab"), inner, max_size=4),
    max_leaves=8,
)
# JSON, or nearly, that json.dumps does not write.
SCRAPS = [
    "NaN", "-Infinity", "Infinity", "1e999", "-0", "1" * 5000, "[" * 900 + "]" * 900, "[" * 7000 + "]" * 7000,
    '{"a":' * 900 + "1" + "}" * 900, '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude42"', "", "undefined",
    "'a'", "01", "0x10", "+1", "1.", '{"a":1,"a":2}', '{"a":1,}', "[1,]", '"\t"', '"\\x41"', "True", "/**/1", "1+1",
    "__import__('os')", '"' + "x" * 9000 + '"',
]  # fmt: skip
json_texts = (
    st.sampled_from(SCRAPS) | values.map(json.dumps) | values.map(lambda value: json.dumps(value, ensure_ascii=False))
)
NAMES = ["access_token", "openid", "client_id", "unionid", "error", "error_description", "expires_in", "a", ""]


def write_object(pairs):
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in pairs) + "}"


@st.composite
def objects(draw):
    """The text of a JSON object, or nearly: names may repeat, and values may be malformed."""
    texts = draw(st.sampled_from([json_texts, values.map(json.dumps)]))
    return write_object(draw(st.lists(st.tuples(st.sampled_from(NAMES) | odd_texts, texts), max_size=3)))


@st.composite
def answers(draw):
    """One of QQ's three formats, or nearly."""
    body, other = draw(objects() | json_texts), draw(objects())
    blank = draw(st.sampled_from([""] * 20 + [" "] * 20 + ["\r\n", "\t", "\ufeff", "\x00", ";", "//x\n", ")"]))
    name = draw(st.sampled_from(["callback"] * 8 + ["Callback", "callback.x", "eval", "_callback"]))
    pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES) | odd_texts, odd_texts | json_texts), max_size=5))
    encoded = ("=".join(quote(text, errors="surrogatepass") for text in pair) for pair in pairs)
    texts = [
        f"{blank}{body}{blank}",
        f"{blank}{name}{blank}({blank}{body}{blank}){blank};{blank}",
        draw(st.sampled_from(["&", "&&", ";", "&amp;"])).join(encoded),
        f"callback( {body} );callback( {other} );",
        f"callback( {body} );\n"[: draw(st.integers(0, len(body)))],
    ]
    return draw(st.sampled_from(texts))


@requirement("3.5")
@examples(600)
@given(answers() | texts | st.binary().map(lambda body: body.decode(errors="replace")))
@example('callback( {"a":' + "[" * 50_000 + "]" * 50_000 + "} );")
@example('{"a":' * 10_000 + "1" + "}" * 10_000)
@example('{"a":' + "1" * 60_000 + "}")
def test_any_answer_of_qq_is_read_exactly_or_refused(text):
    try:
        answer = parse_answer(text)
    except QQError:
        return
    assert type(answer) is dict
    assert all(str(answer.get(name, 0)).strip("-0") == "" for name in ("error", "code", "ret"))
    if "{" in text[:40] and not all(isinstance(value, str) for value in answer.values()):  # certainly no form
        inner = text[text.index("{") : text.rindex("}")].rstrip(" \t\r\n").removesuffix(",")
        assert answer == json.loads(inner + "}")


@requirement("3.5")
@examples(150)
@given(st.lists(st.tuples(st.sampled_from(NAMES), values.map(json.dumps)), min_size=1, max_size=5), values)
def test_repeated_name_in_an_answer_is_refused_at_any_depth(pairs, value):
    double = write_object([*pairs, (pairs[0][0], json.dumps(value))])
    for text in (double, f"callback( {double} );", f'{{"a":{double}}}', f'{{"a":[[{double}]]}}'):
        with pytest.raises(QQUnavailable):
            parse_answer(text)


# Signed values --------------------------------------------------------------------------------------------------------

ERRORS = {"flow cookie": "state_invalid", "sealed code": "code_invalid", "bind token": "bind_token_invalid"}


class SignedValue:
    """A browser with a signed value, and the call that accepts it."""

    addresses = count()

    def __init__(self, qq, name):
        self.browser, self.name = Browser(qq), name
        self.address = self.browser.sign_in()
        ((self.cookie_name, self.value),) = self.browser.cookies.items()
        if name != "flow cookie":
            self.value = self.browser.come_back(self.address)["code"]
        if name == "bind token":
            self.value = self.browser.redeem_code(self.value).json()["access_token"]

    def send(self, value):
        """Send the value from a new address; return the error's code."""
        number = next(self.addresses)
        client = Client(REMOTE_ADDR=f"10.0.{number >> 8}.{number & 255}")
        client.cookies = self.browser.client.cookies
        if self.name == "flow cookie":
            response = client.get(self.address, headers={"cookie": f"{self.cookie_name}={value}"})
            return query_of(response["Location"]).get("error")
        if self.name == "sealed code":
            return client.get("/oauth/qq/users/", {"code": value}).json().get("code")
        form = {"access_token": value}
        return client.post("/oauth/qq/users/", form, content_type="application/json").json()["code"]


@pytest.fixture(params=ERRORS)
def signed(qq, db, request):
    return SignedValue(qq, request.param)


@requirement("4.6")
def test_signed_value_with_a_changed_bit_is_refused(signed):
    value = signed.value
    # Not the last character: some bits of it mean nothing in base64.
    for place in range(0, len(value) - 1, 3 if TIMES == 1 else 1):
        changed = value[:place] + chr(ord(value[place]) ^ 1 << place % 7) + value[place + 1 :]
        assert signed.send(changed) == ERRORS[signed.name], place
    assert signed.send(value) != ERRORS[signed.name]


@requirement("4.6")
def test_signed_value_is_not_decompressed_before_its_signature_is_checked(signed, monkeypatch):
    decompressed = []
    decompress = zlib.decompress
    monkeypatch.setattr(zlib, "decompress", lambda data, *more: decompressed.append(data) or decompress(data, *more))
    bomb = urlsafe_b64encode(zlib.compress(b'{"flow":"' + b"0" * 500_000 + b'"}', 9)).decode().rstrip("=")
    _, signed_at, signature = signed.value.rsplit(".", 2)
    for forged in (f".{bomb}.{signed_at}.{signature}", f".{bomb}", f".{signed.value}", f".{bomb}.{signed_at}."):
        assert signed.send(forged) == ERRORS[signed.name]
    assert decompressed == []
    signed.send(signed.value)
    payload = urlsafe_b64decode(signed.value.split(".")[1] + "==")
    assert (payload in decompressed) == signed.value.startswith(".")  # shows that the patch works
