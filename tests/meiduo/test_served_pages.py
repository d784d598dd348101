"""The pages as the shop serves them: few files, compressed, under names that browsers may keep forever."""

import gzip
import re
import subprocess
import sys
from html.parser import HTMLParser
from shutil import copytree
from urllib.parse import parse_qsl

import pytest
from django.test import RequestFactory, override_settings

from meiduo.pages import PagesMiddleware, build, write
from tests.conftest import page_query
from tests.tools.processes import ROOT
from tests.tools.requirements import requirement

WEB = ROOT / "web"
HTML = "max-age=0, public"
FOREVER = "max-age=31536000, public, immutable"


@pytest.fixture(autouse=True)
def as_in_production(shop):
    del shop.WHITENOISE_AUTOREFRESH  # then DEBUG decides


def read(response):
    return b"".join(response).decode()


def get_files(page):
    """Return the addresses of the files that a page refers to, which is in the shop's root folder."""
    return {"/" + name.lstrip("/") for name in re.findall(r'(?:href|src)="(\S+?\.(?:js|css|svg|png))"', page)}


def served_as(response):
    expected = ("Cache-Control", "Content-Encoding", "Vary", "X-Content-Type-Options", "X-Frame-Options")
    return [response.status_code, *(response.get(name) for name in expected)]


@pytest.mark.parametrize("path", ["/", "/oauth_callback.html", "/login.html"])
def test_page_is_revalidated_and_its_two_files_are_kept_forever(client, db, path):
    accepts = {"Accept-Encoding": "gzip, br"}
    page = client.get(path, headers=accepts)
    assert served_as(page) == [200, HTML, "gzip", "Accept-Encoding", "nosniff", "DENY"]
    text = gzip.decompress(b"".join(page)).decode()
    assert text == read(client.get(path))
    files = get_files(text)
    assert len(files) == 2
    for file in files:
        assert re.fullmatch(r"/(pages|style)\.[0-9a-f]{12}\.(js|css)", file)
        answer = client.get(file, headers=accepts)
        assert served_as(answer) == [200, FOREVER, "gzip", "Accept-Encoding", "nosniff", "DENY"]
        assert gzip.decompress(b"".join(answer)).decode() == read(client.get(file))


def test_head_has_the_headers_of_get_and_no_body(client, db):
    got, head = client.get("/login.html"), client.head("/login.html")
    # As the shop sends it: Django's test client drops the body of any HEAD.
    sent = PagesMiddleware(None)(RequestFactory().head("/login.html"))
    assert (sent.content, head.headers) == (b"", got.headers)
    assert int(head.headers["Content-Length"]) == len(read(got).encode())


def test_files_of_web_are_served_too_and_revalidated(client, db):
    for name in ("callback.js", "style.css", "screenshots/login.en.png"):
        response = client.get(f"/{name}")
        assert b"".join(response) == (WEB / name).read_bytes()
        assert served_as(response)[:2] == [200, HTML]


def test_page_of_another_version_gets_the_files_of_this_one_for_now(client, db):
    for name, current in {"style": "style.css", "pages": "pages.js"}.items():
        response = client.get(f"/{name}.0123456789ab.{current.partition('.')[2]}")
        assert served_as(response)[:2] == [200, HTML]
        assert b"".join(response) == b"".join(client.get(f"/{current}"))
    assert client.get("/other.0123456789ab.js").status_code == 404


def test_developer_gets_the_files_of_web_themselves(client, db):
    with override_settings(DEBUG=True):
        assert read(client.get("/")) == (WEB / "index.html").read_text("utf-8")


def test_copy_for_another_host_is_what_the_shop_serves(client, db, tmp_path):
    subprocess.run([sys.executable, "-m", "meiduo.pages", tmp_path / "new" / "www"], cwd=ROOT, check=True)
    files = {path.name for path in (tmp_path / "new" / "www").iterdir()}
    assert files == {file for name in files for file in (name.removesuffix(".gz"), f"{name.removesuffix('.gz')}.gz")}
    assert files >= {path.name for path in WEB.glob("*.html")}
    for name in files - {"index.html"}:
        if not name.endswith(".gz"):
            assert read(client.get(f"/{name}")) == (tmp_path / "new" / "www" / name).read_text("utf-8")


@pytest.fixture
def web(tmp_path):
    """A folder like web/, which a test may change."""
    return copytree(WEB, tmp_path / "web")


def built(web, folder):
    write(build(web), folder)
    return get_files((folder / "login.html").read_text("utf-8")), {path.name for path in folder.iterdir()}


def test_changed_file_gets_a_new_name_and_the_old_one_stays(web, tmp_path):
    before, _ = built(web, tmp_path / "www")
    (web / "shop.js").write_text((web / "shop.js").read_text("utf-8").replace("400-000-0000", "400-111-1111"), "utf-8")
    after, files = built(web, tmp_path / "www")
    (old,), (new,) = before - after, after - before
    assert {old[1:], new[1:]} <= files
    assert "400-111-1111" in (tmp_path / "www" / new[1:]).read_text("utf-8")


def test_large_picture_becomes_a_file_with_a_hashed_name(web, tmp_path):
    (web / "qq-login.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'>{' ' * 2000}</svg>", "utf-8")
    files, _ = built(web, tmp_path / "www")
    assert [name for name in files if re.fullmatch(r"/qq-login\.[0-9a-f]{12}\.svg", name)]


@pytest.mark.parametrize(
    "line",
    ['import * as faces from "./faces.js";', 'import { a as b } from "./a.js";', "export default 1;", "export { a };"],
)
def test_module_that_cannot_be_joined_is_named(web, line):
    (web / "shop.js").write_text(f"{line}\n", "utf-8")
    with pytest.raises(ValueError, match=re.escape(line)) as raised:
        build(web)
    assert "shop.js" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [("shop.js", b"export default 1;"), ("old.html", "页面".encode("gbk")), ("old.html", b'<link href="gone.css">')],
)
def test_pages_that_cannot_be_joined_are_served_as_they_are(web, client, db, shop, name, content):
    (web / name).write_bytes(content)
    shop.WHITENOISE_ROOT = web
    assert read(client.get("/login.html")) == (WEB / "login.html").read_text("utf-8")
    assert client.get("/usernames/nobody/count/").status_code == 200


NAVIGATION = {"Sec-Fetch-Dest": "document"}


class Root(HTMLParser):
    """The attributes of a page's root element."""

    def __init__(self, page):
        super().__init__()
        self.attributes = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.attributes = self.attributes or dict(attrs)


@requirement("1.6", "9.10")
@pytest.mark.parametrize("target", ["/cart", "/?q=\"'><b>&amp;=1#<s>"])
def test_browser_that_comes_back_gets_the_page_itself(browser, target):
    address = browser.sign_in(next=target)
    redirect = browser.get(address)  # the same query may come again
    path, query = redirect["Location"].removeprefix("http://testserver").split("?", 1)
    response = browser.get(address, headers=NAVIGATION)
    page = read(response)
    root = Root(page).attributes
    assert (root["data-path"], root["data-query"]) == (path, f"?{query}")
    assert response.cookies.keys() == redirect.cookies.keys() != set()
    assert served_as(response) == [200, "no-store", None, None, "nosniff", "DENY"]
    expected = browser.get(path)
    for name in ("Content-Type", "Content-Security-Policy", "Referrer-Policy"):
        assert response[name] == expected[name], name
    attributes = re.search(" data-path=.*(?=>)", page)[0]
    assert re.sub(r'((?:href|src)="|url=)(\./|(?=(login|reset|style|pages)\.))', r"\1/", read(expected)) == (
        page.replace(attributes, "")
    )
    assert browser.redeem_code(browser.come_back(address)["code"]).status_code == 200


def test_browser_gets_the_page_compressed(browser):
    page = browser.get(browser.sign_in(), headers={**NAVIGATION, "Accept-Encoding": "gzip"})
    root = Root(gzip.decompress(page.content).decode()).attributes
    assert dict(parse_qsl(root["data-query"][1:])).keys() == {"code", "state"}
    assert int(page["Content-Length"]) == len(page.content) < 6000


def test_browser_is_redirected_with_an_error(browser):
    """Then QQ's code may be unused, and must not stay in the address."""
    answer = browser.get("/oauth/qq/callback/?code=CODE&state=unknown", headers=NAVIGATION)
    assert page_query(answer) == {"error": "state_invalid"}


@pytest.mark.parametrize(
    "page",
    [
        "https://testserver/oauth_callback.html",
        "http://www.shop.test/oauth_callback.html",
        "http://testserver/login.html",  # does not hide its query
        "http://testserver/callback.html",
        "http://testserver/oauth_callback.html#top",  # a fragment is the browser's to keep
    ],
)
def test_browser_is_redirected_to_a_page_of_another_kind(browser, shop, page):
    shop.QQ_CALLBACK_PAGE = page
    response = browser.get(browser.sign_in(), headers=NAVIGATION)
    assert (response.status_code, re.sub(r"\?[^#]*", "", response["Location"])) == (302, page)


def test_developer_is_redirected(browser):
    with override_settings(DEBUG=True):
        assert browser.get(browser.sign_in(), headers=NAVIGATION).status_code == 302
