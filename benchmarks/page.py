"""A shopper's wait: from QQ's redirect to the login, in Chromium, over a slow line, behind the nginx of deploy/.

`python -m benchmarks.page` prints each login. It runs two shops, this one and the build before, on SQLite.
"""

import argparse
import hashlib
import json
import os
import random
import re
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from playwright.sync_api import Browser, CDPSession, expect, sync_playwright

import standin
from benchmarks.servers import extract
from tests.e2e.browsers import OPTIONS, BrowserUser, Place, button, sees
from tests.tools import processes
from tests.tools.processes import HOST, ROOT

Figures = dict[str, Any]
Event = tuple[str, dict[str, Any]]

BEFORE = "16925fa19d91"  # the last commit before the callback page was made fast
NAME = "shop.test"  # another site than QQ, as in life: browsers keep their caches apart by site
PERSON, NEXT = "小企鹅", "/?logged-in"
QQ_TAKES = 0.05  # seconds
AT_QQ = 1.5  # seconds that the shopper spends on QQ's page


@dataclass(frozen=True)
class Case:
    round_trip: int  # milliseconds
    megabits: float  # per second
    is_seen: bool  # the login begins at the login page; otherwise nothing of the pages is cached
    http: str = "2"
    goal: tuple[float, float] | None = None  # our time to that of the build before: at most, and the aim

    @property
    def title(self) -> str:
        seen = "login page seen before" if self.is_seen else "nothing cached"
        return f"{self.round_trip} ms, {self.megabits} Mbit/s, HTTP/{self.http}, {seen}"


CASES = [
    Case(150, 1.6, is_seen=True, goal=(0.55, 0.45)),
    Case(150, 1.6, is_seen=False, goal=(0.7, 0.55)),
    Case(50, 10, is_seen=True, goal=(0.65, 0.5)),
    Case(150, 1.6, is_seen=True, http="1.1"),
    Case(150, 1.6, is_seen=False, http="1.1"),
    Case(50, 10, is_seen=True, http="1.1"),
]


def make_certificate(folder: Path) -> str:
    """Write key and certificate; return the hash by which Chromium trusts them. It caches nothing of untrusted ones."""
    issued = trustme.CA().issue_cert(NAME)
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    chain = [pem.bytes() for pem in issued.cert_chain_pems]
    (folder / "fullchain.pem").write_bytes(b"".join(chain))
    key = load_pem_x509_certificate(chain[0]).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b64encode(hashlib.sha256(key).digest()).decode()


@contextmanager
def nginx(folder: Path, certificate: Path, source: Path, http: str, shop: processes.Shop) -> Iterator[int]:
    """Run nginx with a contestant's deploy/nginx.conf, and gzip as Debian's nginx.conf has it; yield its port."""
    folder.mkdir()
    port = processes.free_port()
    site = (source / "deploy/nginx.conf").read_text()
    for ours, here in {
        r"listen \[::\]:\d+.*;": "",
        r"listen 80;": f"listen {HOST}:{processes.free_port()};",
        r"listen 443 ssl http2;": f"listen {HOST}:{port} ssl {'http2' if http == '2' else ''};",
        r"api\.shop\.example": NAME,
        r"unix:/run/meiduo/shop\.sock": urlsplit(shop.url).netloc,
        r"/etc/ssl/meiduo": str(certificate),
        r"/var/log/nginx": str(folder),
    }.items():
        site, count = re.subn(ours, here, site)
        assert count, ours
    (folder / "site.conf").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    (folder / "main.conf").write_text(
        f"daemon off; pid {folder / 'pid'}; {'user root;' if os.geteuid() == 0 else ''}"
        f"events {{}} http {{ {temporary} gzip on; include {folder / 'site.conf'}; }}"
    )
    log = folder / "start.log"
    command = [processes.find("nginx"), "-e", str(log), "-c", str(folder / "main.conf")]
    with processes.listening(port, command, log):
        yield port


@contextmanager
def open_shop(folder: Path, certificate: Path, source: Path, case: Case) -> Iterator[Place]:
    """Run the shop in `source` behind nginx and the line."""
    folder.mkdir()
    listener, front = processes.listen(), processes.free_port()
    pages = f"https://{NAME}:{front}"
    environ = {
        "QQ_REDIRECT_URI": f"{pages}/oauth/qq/callback/",
        "QQ_CALLBACK_PAGE": f"{pages}/oauth_callback.html",
        "ALLOWED_HOSTS": f"{NAME},{HOST}",
        "DATABASE_URL": "",
        "CACHE_URL": "",
        "GUNICORN_CMD_ARGS": "--config=python:meiduo.server",
    }
    line = [sys.executable, "-m", "benchmarks.line", str(front)]
    with (
        standin.running(callbacks=[environ["QQ_REDIRECT_URI"]]) as qq,
        processes.shop(folder, qq, listener=listener, cwd=source, **environ) as shop,
        nginx(folder / "nginx", certificate, source, case.http, shop) as port,
        processes.listening(
            front, [*line, str(port), str(case.round_trip), str(case.megabits)], folder / "line.log", cwd=ROOT
        ),
    ):
        yield Place(shop, qq, pages)


def log_in(browser: Browser, place: Place, case: Case) -> Figures:
    """Log in with a new profile; return the seconds, requests and bytes from QQ's redirect to the login."""
    place.qq.behave(token={"fault": "slow", "seconds": QQ_TAKES})
    with closing(browser.new_context(locale="zh-CN")) as context:
        page = context.new_page()
        if case.is_seen:
            page.goto(f"{place.pages}/login.html?next={quote(NEXT)}")
            button(page, "QQ登录").click()
        else:
            page.goto(f"{place.pages}/oauth/qq/login/?next={quote(NEXT)}")
        sees(page, "QQ 登录")
        page.get_by_label("或者任何人").fill(PERSON)
        page.wait_for_timeout(1000 * AT_QQ)
        events = record(context.new_cdp_session(page))
        button(page, "登录 Sign in").click()
        expect(page.locator("#account-username")).to_be_visible()
        return read_events(events, place.pages)


def record(session: CDPSession) -> list[Event]:
    """Return the list of what Chromium tells about its requests, which fills later."""
    events: list[Event] = []
    for name in ("requestWillBeSent", "loadingFinished", "requestServedFromCache"):
        session.on(f"Network.{name}", lambda event, name=name: events.append((name, event)))  # type: ignore[misc]
    session.send("Network.enable")
    return events


def read_events(events: list[Event], pages: str) -> Figures:
    sent = [(event["request"]["url"], event) for name, event in events if name == "requestWillBeSent"]
    begin = next(event["timestamp"] for url, event in sent if url.startswith(f"{pages}/oauth/qq/callback/"))
    # The login is stored when the page asks for the next one.
    end = next(event["timestamp"] for url, event in sent if url == pages + NEXT)
    # From the cache come 0 bytes. What has not arrived by now counts as a request.
    sizes = {event["requestId"]: event["encodedDataLength"] for name, event in events if name == "loadingFinished"}
    sizes |= {event["requestId"]: 0 for name, event in events if name == "requestServedFromCache"}
    # A redirect has the same id as the page that it leads to.
    asked = {
        event["requestId"]: urlsplit(url).path
        for url, event in sent
        if begin <= event["timestamp"] < end and url.startswith(pages)
    }
    fetched = {request: path for request, path in asked.items() if sizes.get(request) != 0}
    return {
        "seconds": end - begin,
        "bytes": sum(sizes.get(request, 0) for request in fetched),
        "requests": sorted(fetched.values()),
    }


def measure(cases: list[Case], rounds: int) -> list[Figures]:
    """Return for each case what it is, and for each round the figures of both shops."""
    results = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meiduo-page-")))
        sources = {"ours": ROOT, "before": folder / "source"}
        extract(BEFORE, sources["before"])
        trusted = f"--ignore-certificate-errors-spki-list={make_certificate(folder)}"
        options = [*OPTIONS, trusted, f"--host-resolver-rules=MAP {NAME} {HOST}"]
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=processes.find("chromium"), args=options)
        for number, case in enumerate(cases):
            with ExitStack() as shops:
                places = {
                    name: shops.enter_context(open_shop(folder / f"{name}-{number}", folder, source, case))
                    for name, source in sources.items()
                }
                for place in places.values():
                    with closing(browser.new_context(locale="zh-CN")) as context:
                        user = BrowserUser(place, context, PERSON)
                        user.bind(user.arrive(), "/")
                measured = []
                for _ in range(rounds):
                    names = random.sample(list(places), len(places))
                    measured.append({name: log_in(browser, places[name], case) for name in names})
                    print(
                        case.title, {name: round(each["seconds"], 3) for name, each in measured[-1].items()}, flush=True
                    )
            results.append({**asdict(case), "title": case.title, "rounds": measured})
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--results", type=Path, help="write the figures to this file, as JSON")
    parser.add_argument("--case", type=int, action="append", help="only this case, from 0; may be repeated")
    arguments = parser.parse_args()
    chosen = [CASES[case] for case in arguments.case] if arguments.case else CASES
    figures = measure(chosen, arguments.rounds)
    if arguments.results:
        arguments.results.write_text(json.dumps(figures))
