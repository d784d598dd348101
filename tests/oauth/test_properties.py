"""What holds whatever comes in: for `next`, for QQ's answers, and for every field and parameter of the API.

The examples are the same in each run. FUZZ_TIMES=50 tries fifty times as many, others each time.
"""

import json
import os
import zlib
from base64 import urlsafe_b64encode
from itertools import count, product
from string import ascii_letters, digits, hexdigits
from urllib.parse import parse_qs, quote, quote_from_bytes, unquote, unquote_plus, urlsplit
from uuid import uuid4

import pytest
from ada_url import URL
from apps.oauth.inputs import clean_next
from django.core.cache import cache
from django.test import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.oauth.qq import OAuthQQ, QQError, QQIdentity, QQUnavailable, read_answer
from tests.conftest import CALLBACK, MOBILE, PAGE, PASSWORD, Browser, Phone, query_of
from tests.oauth.test_validation import FRIENDLY, HOSTILE

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))


def examples(number):
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        deadline=None,  # the machine may be busy
        database=None,
        suppress_health_check=list(HealthCheck),  # fixtures are shared by the examples, which bring their own shopper
    )


# next -----------------------------------------------------------------------------------------------------------------

PAGES = [
    PAGE,
    "https://www.example.com/oauth_callback.html",
    "https://shop.example:8443/",
    "http://127.0.0.1:8000/a?b#c",
    "http://[::1]:8000/page",
]
RESERVED = ";/?:@&=+$,#"  # what decodeURI leaves encoded


def decode_uri_component(text):
    """JavaScript's function of that name; ValueError where it throws."""
    return unquote(check_escapes(text), errors="strict")


def decode_uri(text):
    for char in RESERVED:
        for code in (f"%{ord(char):02X}", f"%{ord(char):02x}"):
            text = text.replace(code, code.replace("%", "%25"))
    return decode_uri_component(text)


def check_escapes(text):
    for part in text.split("%")[1:]:
        if not (len(part) >= 2 and set(part[:2]) <= set(hexdigits)):
            raise ValueError
    return text


# What pages make of the text before they go there: nothing, one of these, or two of them.
ROUNDS = (str, decode_uri, decode_uri_component, unquote, unquote_plus)


def places(path, page):
    """Where a page may end up that goes to `path`, by the rules browsers follow."""
    for first, second in product(ROUNDS, ROUNDS):
        try:
            text = second(first(path))
        except ValueError:  # the script throws, and the page stays where it is
            continue
        yield text, URL(text, base=page)


def shown(text, page):
    """The path, query and fragment a browser has for `text`."""
    url = URL(text, base=page)
    return url.pathname, url.search, url.hash


def assert_is_safe(value, page):
    path = clean_next(value, page)
    if path == "/":
        return
    for text, url in places(path, page):
        assert url.origin == URL(page).origin, f"{value!r} leads to {url.href} by {text!r}"
    assert path.startswith("/")
    assert len(quote(path, safe="/?:@=,;")) <= 512
    assert clean_next(path, page) == path
    if path != value:  # then it was an address of the shop's own
        assert URL(value).origin == URL(page).origin
        assert shown(path, page) == shown(value, page)


PIECES = [
    *"/\\:@?#%.;&=+[] \t\r\n\x00\x0b\x1f\x7f\x85\xa0\xad\u200b\u2028\u2029\u3000\ufeff\ud800\udfff", "//", "/\\", "\\/",
    "///", "/.", "/..", "/./", "/.//", "/..//", "%2f", "%2F", "%5c", "%5C", "%09", "%0a", "%0d%0a", "%00", "%20", "%25",
    "%252f", "%255c", "%25252f", "%3a", "%40", "%", "%2", "%zz", "%u002f", "%c0%af", "%ff", "%e8%bd", "%E8%BD%A6",
    "%ef%bc%8f", "%ed%a0%80", "%e2%80%a8", "http:", "https:", "HTTP:", "ftp:", "javascript:", "data:", "java\tscript:",
    "blob:", "file:", "http://", "https://", "testserver", "www.example.com", "shop.example:8443", "127.0.0.1:8000",
    "[::1]:8000", "[::1", "[", "evil.example", "testserver.evil.example", "eviltestserver", "testserver@evil.example",
    "user:pass@", "TESTSERVER", "testserver.", "testserver:80", ":81", ":x", ":99999", "xn--", "xn--ls8h.example",
    "0x7f.1", "2130706433", "１２７.0.0.1",
    # characters that are others once normalised: / \ . : @ ? # and letters
    "／", "＼", "⁄", "∕", "。", "．", "：", "＠", "？", "＃", "％", "℀", "㏂", "ﬀ", "ｔestserver", "teſtserver", "K",
    "①", "cart", "/cart", "车", "é", "é", "🙂", "a=1", "alert(1)", "evil",
]  # fmt: skip
texts = st.text() | st.text(st.characters(codec=None, categories=None)) | st.text("/\\:@.%25fFcC# \t\r\n")
pieced = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)
beginnings = ["/", "/cart", "/a?b=", "/#", *(URL(page).origin + "/" for page in PAGES)]
rooted = st.builds(str.__add__, st.sampled_from(beginnings), pieced)
known = st.sampled_from([value for value in (*HOSTILE, *FRIENDLY) if len(value) < 1000])


@st.composite
def bent(draw, originals):
    """A known text with up to three changes."""
    text = draw(originals)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        match draw(st.sampled_from(["insert", "drop", "encode", "encode all", "double", "case"])):
            case "insert":
                text = text[:place] + draw(st.sampled_from(PIECES)) + text[place:]
            case "drop":
                text = text[:place] + text[place + 1 :]
            case "encode":
                code = text[place : place + 1].encode("utf-8", "surrogatepass")
                text = text[:place] + "".join(f"%{byte:02x}" for byte in code) + text[place + 1 :]
            case "encode all":
                text = quote(text, safe="", errors="surrogatepass")
            case "double":
                text = text[:place] + text[place : place + 1] * 2 + text[place + 1 :]
            case "case":
                text = text.swapcase()
    return text


@examples(4000)
@given(texts | pieced | rooted | known | bent(known) | bent(rooted), st.sampled_from(PAGES))
def test_next_never_leaves_the_shop_however_a_page_decodes_it(value, page):
    assert_is_safe(value, page)


SLASHES = ["".join(chars) for length in (0, 1, 2, 3, 4) for chars in product("/\\", repeat=length)]
BEFORE = ["", " ", "\t", "\n", "\x08", "\x00", "\xa0", "\u2028"]
SCHEMES = ["", "http:", "https:", "HTTP:", "ftp:", "javascript:", "data:", "java\nscript:", "h\tttp:", ":"]
HOSTS = [
    "evil.example", "testserver@evil.example", "testserver\\@evil.example", "testserver\\me:pass@evil.example", "[",
    "]", "[::1", "999999999", "testserver.evil.example", "evil.example:80", "evil.example#@testserver", "testserver:81",
    "[2001:db8::1/", "2001:db8::1]/", "evil。example", "evil℀.example", "evil.example?/testserver/",
]  # fmt: skip


def test_slashes_schemes_and_hosts_in_every_combination_stay_in_the_shop():
    """All that Django's own check of redirects has ever been bent with, and its neighbours."""
    for value in map("".join, product(BEFORE, SCHEMES, SLASHES, HOSTS)):
        assert_is_safe(value, PAGE)
        for code in (quote(value, safe=""), "/" + value, "/" + quote(value, safe="")):
            assert_is_safe(code, PAGE)


@examples(300)
@given(texts | pieced | rooted | known | bent(known))
def test_the_login_address_holds_what_became_of_next_and_nothing_else(value):
    asked = quote(value, safe="", errors="surrogatepass")
    response = Client().get(f"/oauth/qq/authorization/?next={asked}")
    addresses = response.json()
    assert response.status_code == 200
    for address in addresses.values():
        assert set(address) <= set(f"{ascii_letters}{digits}-_.~/?:@=,;%")
        assert address.startswith("http://testserver/oauth/qq/login/?next=/")
        came = unquote(asked, errors="replace")  # as the framework reads broken UTF-8
        assert parse_qs(urlsplit(address).query) == {"next": [clean_next(came, PAGE)]}


# QQ's answers ---------------------------------------------------------------------------------------------------------

odd_texts = st.text(st.characters(codec=None, categories=None)) | st.sampled_from(
    ["", " ", "\x00", "\ud800", "\ufeff", "0", "null", "1" * 200, "é", "１２", "a\r\nb", "'\"<>&;#", "../", "%00", "{}"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | odd_texts
    | st.sampled_from([MOBILE, PASSWORD, "123456", "A" * 32, "101000001"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_texts | st.sampled_from("ab"), inner, max_size=4),
    max_leaves=8,
)
# JSON that no Python value is written as.
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


@st.composite
def objects(draw):
    """The text of a JSON object, or nearly: names may come twice, and values may be none of JSON."""
    texts = draw(st.sampled_from([json_texts, values.map(json.dumps)]))
    pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES) | odd_texts, texts), max_size=3))
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in pairs) + "}"


@st.composite
def answers(draw):
    """One of QQ's three formats, or nearly."""
    body = draw(objects() | objects() | json_texts)
    blank = st.sampled_from([""] * 20 + [" "] * 20 + ["\r\n", "\t", "\ufeff", "\x00", ";", "//x\n", ")"])
    match draw(st.sampled_from(["json", "jsonp", "form", "twice", "cut"])):
        case "json":
            text = draw(blank) + body + draw(blank)
        case "jsonp":
            name = draw(st.sampled_from(["callback"] * 8 + ["Callback", "callback.x", "eval", "_callback"]))
            text = f"{draw(blank)}{name}{draw(blank)}({draw(blank)}{body}{draw(blank)}){draw(blank)};{draw(blank)}"
        case "form":
            pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES) | odd_texts, odd_texts | json_texts), max_size=5))
            join = draw(st.sampled_from(["&", "&&", ";", "&amp;"]))
            written = [
                (quote(name, errors="surrogatepass"), quote(text, errors="surrogatepass")) for name, text in pairs
            ]
            text = join.join(f"{name}={text}" for name, text in written)
        case "twice":
            text = f"callback( {body} );callback( {draw(objects())} );"
        case "cut":
            text = f"callback( {body} );\n"
            text = text[: draw(st.integers(0, len(text)))]
    return text


def read(text):
    """What read_answer makes of the text; None for its own refusal. Anything else it raises fails the test."""
    try:
        return read_answer(text)
    except QQError:
        return None


@examples(2000)
@given(answers() | texts | st.binary().map(lambda body: body.decode(errors="replace")))
@example('callback( {"a":' + "[" * 50_000 + "]" * 50_000 + "} );")
@example('{"a":' * 10_000 + "1" + "}" * 10_000)
@example('{"a":' + "1" * 60_000 + "}")
def test_any_answer_of_qq_is_a_dict_or_our_own_error(text):
    answer = read(text)
    if answer is None:
        return
    assert type(answer) is dict
    assert "error" not in answer
    if "{" not in text[:40] or all(isinstance(value, str) for value in answer.values()):
        return  # a form, or as flat as one
    # Then it is the JSON between the first brace and the last, read by the letter.
    assert answer == json.loads(text[text.index("{") : text.rindex("}") + 1])


@examples(500)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), values.map(json.dumps)), max_size=5),
    st.sampled_from(NAMES),
    values,
    values,
)
def test_a_name_twice_is_no_answer_wherever_it_stands(pairs, name, first, second):
    def written(pairs):
        return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in pairs) + "}"

    double = written([*pairs, (name, json.dumps(first)), (name, json.dumps(second))])
    for text in (double, f"callback( {double} );", written([("a", double)]), written([("a", f"[[{double}]]")])):
        with pytest.raises(QQUnavailable):
            read_answer(text)


@pytest.fixture
def client(qq):
    return OAuthQQ(
        client_id=qq.client_id, client_secret=qq.client_secret, redirect_uri=CALLBACK, api_url=qq.url, unionid=True
    )


def identify(qq, client):
    """Sign in at QQ and swap the code; return whom QQ names, or nobody."""
    code = query_of(qq.sign_in(client.get_authorization_url("s" * 43), "小明"))["code"]
    try:
        return client.identify(code)
    except QQError:
        return None


like_an_openid = st.from_regex(r"[0-9A-Fa-f]{31,33}\n?|[0-9A-F]{31}[０-９ \x00]", fullmatch=True).map(json.dumps)
like_a_token = st.from_regex(r"[A-Za-z0-9._~&#=%\r\n -]{1,12}", fullmatch=True).map(json.dumps)
like_a_client = st.sampled_from(["101000001", " 101000001", "101000001 ", "１01000001", "101000002"]).map(json.dumps)


@examples(60)
@given(
    st.sampled_from(["access_token", "openid", "client_id", "unionid"]),
    json_texts | like_an_openid | like_a_token | like_a_client,
)
@example("openid", '"0123456789ABCDEF0123456789ABCDEF"')
@example("unionid", '"UID_0123456789"')
@example("client_id", '"101000001"')
def test_a_field_of_any_kind_in_qqs_answer_names_a_proper_person_or_nobody(qq, client, field, text):
    good = {
        "access_token": '"A"',
        "client_id": f'"{qq.client_id}"',
        "openid": f'"{qq.openid("小明")}"',
        "unionid": '"UID_1"',
    }
    told = good | {field: text}
    for with_openid in (True, False):
        names = ["access_token", "openid"] if with_openid else ["access_token"]
        body = "{" + ",".join(f'"{name}":{told[name]}' for name in names) + "}"
        me = "{" + ",".join(f'"{name}":{told[name]}' for name in ("client_id", "openid", "unionid")) + "}"
        qq.behave(token={"fault": "body", "body": body}, me={"fault": "body", "body": me})
        person = identify(qq, client)
        if person is not None:
            as_read = {name: json.loads(text) for name, text in told.items()}
            assert person == QQIdentity(openid=as_read["openid"], unionid=as_read["unionid"] or None)
            assert len(person.openid) == 32
            assert set(person.openid) <= set(hexdigits)
            assert set(person.unionid or "") <= set(f"{ascii_letters}{digits}_-")
            assert as_read["client_id"] == qq.client_id
            assert set(as_read["access_token"]) <= set(f"{ascii_letters}{digits}._~-")
        qq.behave(token=None, me=None)
        # Whatever that was, it did the next shopper no harm.
        assert identify(qq, client).openid == qq.openid("小明")


# Fields and parameters ------------------------------------------------------------------------------------------------


def assert_answers(response):
    """A mistake is the caller's, and one sentence says so."""
    assert response.status_code < 500
    if response.status_code >= 400:
        message = response.json()["message"]
        assert isinstance(message, str)
        assert message
    assert "Traceback" not in response.content.decode("latin-1")


numbers = count()


def new_client():
    """Somebody nobody has counted yet."""
    number = next(numbers)
    return Client(REMOTE_ADDR=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")


def post(path, fields, client=None):
    """POST an object of JSON texts."""
    body = "{" + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"
    return (client or new_client()).post(path, body.encode("utf-8", "surrogatepass"), content_type="application/json")


like_a_mobile = st.from_regex(r"\+?(86)?1[3-9][0-9０-９]{8,10}[\n ]?", fullmatch=True).map(json.dumps)
like_an_sms_code = st.from_regex(r"[0-9０-９]{5,7}\n?", fullmatch=True).map(json.dumps)
field_texts = json_texts | like_a_mobile | like_an_sms_code


@pytest.fixture
def new_form(qq, tmp_path):
    """Makes the page's form, filled in right by somebody new, and the client to send it with."""

    def make():
        cache.clear()  # what the examples before have used up
        client = new_client()
        browser = Browser(qq)
        browser.client = client
        mobile = f"13{next(numbers):09}"
        bind_token = browser.get_bind_token(f"person {mobile}")
        sms_code = Phone(tmp_path, client).receive_code(mobile)
        return client, {"mobile": mobile, "password": PASSWORD, "sms_code": sms_code, "access_token": bind_token}

    return make


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["mobile", "password", "sms_code", "access_token"])
def test_a_field_of_the_bind_form_may_be_anything(new_form, field):
    @examples(40)
    @given(field_texts)
    def try_it(text):
        client, form = new_form()
        assert_answers(
            post("/oauth/qq/users/", {name: json.dumps(form[name]) for name in form} | {field: text}, client)
        )

    try_it()


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["username", "password", "password2", "mobile", "sms_code", "allow"])
def test_a_field_of_the_registration_form_may_be_anything(tmp_path, field):
    @examples(25)
    @given(field_texts)
    def try_it(text):
        cache.clear()
        client, number = new_client(), next(numbers)
        form = {"username": f"user_{number}", "password": PASSWORD, "password2": PASSWORD, "mobile": f"15{number:09}"}
        form |= {"sms_code": Phone(tmp_path, client).receive_code(form["mobile"]), "allow": True}
        assert_answers(post("/users/", {name: json.dumps(form[name]) for name in form} | {field: text}, client))

    try_it()


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["username", "password"])
def test_a_field_of_the_login_form_may_be_anything(account, field):
    @examples(150)
    @given(field_texts)
    def try_it(text):
        cache.clear()
        good = {"username": json.dumps(account.username), "password": json.dumps(PASSWORD)}
        assert_answers(post("/authorizations/", good | {field: text}))

    try_it()


@pytest.mark.django_db
@examples(300)
@given(st.sampled_from(["/oauth/qq/users/", "/authorizations/", "/users/"]), answers() | json_texts | objects() | texts)
def test_a_body_may_be_anything(path, text):
    response = new_client().post(path, text.encode("utf-8", "surrogatepass"), content_type="application/json")
    assert_answers(response)
    assert response.status_code >= 400


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["mobile", "password", "sms_code"])
def test_a_number_is_no_text(new_form, field):
    client, form = next(made for made in iter(new_form, None) if made[1]["sms_code"][0] != "0")
    form["password"] = "905173628461"
    fields = {name: json.dumps(form[name]) for name in form} | {field: form[field]}
    response = post("/oauth/qq/users/", fields, client)
    assert response.status_code == 400


@pytest.mark.parametrize("path", ["/authorizations/", "/users/", "/password/"])
def test_a_name_twice_in_a_body_is_refused(path, db):
    body = '{"username": "zhang3", "password": "a", "password": "b"}'
    response = new_client().post(path, body, content_type="application/json")
    assert response.status_code == 400
    assert response.json().keys() == {"message"}  # no field is blamed: the body as a whole is none


some_bytes = st.binary(max_size=40) | (texts | pieced | odd_texts).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
QUERIES = {
    "/oauth/qq/authorization/": ["next", "state"],
    "/oauth/qq/login/": ["next"],
    "/oauth/qq/callback/": ["code", "state", "error", "usercancel"],
    "/oauth/qq/users/": ["code", "state", "error"],
    f"/sms_codes/{MOBILE}/": ["text", "image_code_id"],
    f"/image_codes/{uuid4()}/": ["x"],
    f"/mobiles/{MOBILE}/count/": ["x"],
}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", QUERIES, ids=lambda path: path.split("/")[-2] if "oauth" in path else path.split("/")[1]
)
def test_a_query_parameter_may_be_anything_and_come_often(browser, path):
    good = {
        "code": b"A" * 32,
        "state": b"s" * 43,
        "next": b"/cart",
        "image_code_id": str(uuid4()).encode(),
        "text": b"ABCD",
    }

    @examples(120 if "image" not in path else 10)
    @given(st.lists(st.tuples(st.sampled_from(QUERIES[path]), some_bytes | st.none()), max_size=4))
    def try_it(pairs):
        cache.clear()
        query = "&".join(
            f"{name}={quote_from_bytes(good.get(name, b'') if text is None else text)}" for name, text in pairs
        )
        response = new_client().get(f"{path}?{query}")
        assert_answers(response)
        if path.endswith(("login/", "callback/")):
            assert response.status_code == 302
            assert response["Location"].startswith((PAGE, f"{browser.qq.url}/oauth2.0/authorize?"))

    try_it()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["code", "state"])
def test_what_the_browser_brings_back_may_be_anything(qq, name):
    @examples(40)
    @given(some_bytes | bent(known).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def try_it(text):
        cache.clear()
        browser = Browser(qq)
        browser.client = new_client()
        address = browser.sign_in()
        good = query_of(address)
        response = browser.get(address.replace(f"{name}={good[name]}", f"{name}={quote_from_bytes(text)}"))
        assert response.status_code == 302
        page = query_of(response["Location"])
        if "error" in page:
            return
        answer = browser.collect(page["code"])  # a code nobody was given: QQ is asked, and says no
        assert_answers(answer)
        assert answer.json()["code"] == "qq_rejected"

    try_it()


@pytest.mark.django_db
@examples(150)
@given(st.sampled_from(["usernames/{}/count/", "mobiles/{}/count/", "sms_codes/{}/", "image_codes/{}/"]), some_bytes)
def test_a_part_of_the_path_may_be_anything(path, text):
    cache.clear()
    assert_answers(new_client().get("/" + path.format(quote_from_bytes(text, safe=""))))


# Signed values --------------------------------------------------------------------------------------------------------


class Holder:
    """A browser in the middle of a login, and each signed value it holds with the call that takes it."""

    def __init__(self, qq):
        self.browser = Browser(qq)
        self.browser.client = new_client()
        self.address = self.browser.sign_in()
        (self.cookie,) = self.browser.client.cookies.values()
        self.values = {"flow cookie": self.cookie.value}

    def go_on(self):
        code = self.browser.come_back(self.address)["code"]
        self.values |= {"sealed code": code, "bind token": self.browser.collect(code).json()["access_token"]}
        return self

    def show(self, name, value):
        """Show the shop one of the values, from an address of its own; return the code it refuses it with."""
        client = new_client()
        client.cookies = self.browser.client.cookies
        if name == "flow cookie":
            response = client.get(self.address, headers={"cookie": f"{self.cookie.key}={value}"})
            return query_of(response["Location"]).get("error")
        if name == "sealed code":
            return client.get("/oauth/qq/users/", {"code": value}).json().get("code")
        return post("/oauth/qq/users/", {"access_token": json.dumps(value)}, client).json()["code"]


REFUSED = {"flow cookie": "state_invalid", "sealed code": "code_invalid", "bind token": "bind_token_invalid"}


@pytest.fixture
def holder(qq, db):
    return Holder(qq)


@pytest.mark.parametrize("name", REFUSED)
def test_a_signed_value_with_any_bit_changed_is_refused(holder, name):
    if name != "flow cookie":
        holder.go_on()
    value = holder.values[name]
    for place in range(len(value) - 1):  # the last letter of base64 carries bits that mean nothing
        bent = value[:place] + chr(ord(value[place]) ^ 1 << place % 7) + value[place + 1 :]
        assert holder.show(name, bent) == REFUSED[name], place
    assert holder.show(name, value) != REFUSED[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_signed_value_that_is_packed_is_not_unpacked_before_its_signature_is_checked(holder, name, monkeypatch):
    unpacked = []
    unpack = zlib.decompress
    monkeypatch.setattr(zlib, "decompress", lambda packed, *more: unpacked.append(packed) or unpack(packed, *more))
    if name != "flow cookie":
        holder.go_on()
    value = holder.values[name]
    bomb = urlsafe_b64encode(zlib.compress(b'{"flow":"' + b"0" * 500_000 + b'"}', 9)).decode().rstrip("=")
    _, signed_at, signature = value.rsplit(".", 2)
    unpacked.clear()
    for bent in (f".{bomb}.{signed_at}.{signature}", f".{bomb}", f".{value}", f".{bomb}.{signed_at}."):
        assert holder.show(name, bent) == REFUSED[name]
    assert unpacked == []
    holder.show(name, value)
    assert len(unpacked) == value.startswith(".")  # else nothing would have been seen above either


@pytest.mark.parametrize("length", [1025, 3073, 15_000, 100 * 1024])
def test_a_signed_value_too_long_to_be_ours_is_refused(holder, length):
    holder.go_on()
    assert holder.show("sealed code", "A" * length) == "code_invalid"
    assert holder.show("bind token", "A" * length) == ("invalid" if length > 16 * 1024 else "bind_token_invalid")
