"""The files of deploy/ with only names, ports and paths replaced: proxies, TLS, gunicorn and the whole login."""

import json
import os
import re
import socket
import sysconfig
import threading
from contextlib import closing
from http.client import HTTPSConnection
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

import standin
from tests.e2e import proxies
from tests.meiduo.test_settings import PRODUCTION
from tests.tools import processes
from tests.tools.processes import HOST, ROOT, Visitor
from tests.tools.remote_users import RemoteUser, at_once, new_mobile, query_database

pytestmark = [pytest.mark.servers, pytest.mark.skipif(not processes.find("nginx"), reason="no nginx")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the proxies' key and certificate, issued by an authority that this process trusts."""
    folder = tmp_path_factory.mktemp("deploy")
    with proxies.certificate(folder):
        yield folder


@pytest.fixture(scope="module")
def shop(folder):
    """The shop behind nginx. Replaces the fixture of that name in conftest.py."""
    listener = processes.listen()
    with proxies.nginx(folder / "nginx", folder, f"{HOST}:{listener.getsockname()[1]}") as (http, https):
        environ = {"QQ_REDIRECT_URI": f"{https}/oauth/qq/callback/", "QQ_CALLBACK_PAGE": f"{https}/oauth_callback.html"}
        environ |= {"GUNICORN_CMD_ARGS": "--config=python:meiduo.server"}
        with (
            standin.running(callbacks=[environ["QQ_REDIRECT_URI"]]) as qq,
            processes.shop(folder, qq, listener=listener, **environ) as gunicorn,
        ):
            yield SimpleNamespace(qq=qq, http=http, url=https, var=gunicorn.var, gunicorn=gunicorn)


@pytest.fixture
def user(shop):
    return RemoteUser([processes.Shop(shop.url, shop.var, shop.gunicorn.process)], shop.qq)


def nginx_logs(folder):
    return "".join(path.read_text() for path in (folder / "nginx").glob("*.log"))


def test_login_works_and_leaves_no_secret_in_the_logs_of_nginx(user, shop, folder):
    address = user.sign_in()
    code = user.come_back(address)["code"]
    bind_token = user.redeem_code(code).json()["access_token"]
    form = user.fill_in(mobile := new_mobile(), bind_token)
    answer = user.bind(form)
    assert (answer.status, answer.json()["next"]) == (200, "/cart")
    assert {cookie.name[:7] for cookie in user.visitor.cookies} == {"__Host-"}
    again = user.redeem_code(user.arrive())
    assert (again.status, again.json()["user_id"]) == (200, answer.json()["user_id"])
    user.visitor.get(f"{shop.url}/mobiles/%0a{mobile}/{mobile}/count/")

    processes.wait_until(lambda: '"GET /mobiles/\\x0A***" 404 ' in nginx_logs(folder), "nginx has written its log")
    written = nginx_logs(folder)
    assert '"GET /sms_codes/***" 200 ' in written
    assert written.count('"GET /oauth/qq/users/" 200 ') == 2
    for secret in (code, bind_token, mobile, "state=", "code=", "text=", answer.json()["token"]):
        assert secret not in written


def test_shop_gets_the_real_client_address_and_the_request_id_of_nginx(shop, folder):
    forged = {"X_Forwarded_Proto": "http", "X_Request_ID": "forged"}
    Visitor(address="198.18.0.1").get(f"{shop.url}/oauth/qq/login/", **forged)
    (log,) = (path.read_text() for path in folder.glob("shop-*.log"))
    event = [line for line in log.splitlines() if " meiduo.audit: start " in line][-1]
    assert " address=127.0.0.1 " in event
    assert "198.18.0.1" not in log
    assert "forged" not in event
    request_id = re.search(r" request_id=(\w{32}) ", event)[1]
    processes.wait_until(lambda: request_id in nginx_logs(folder), "nginx has written it too")


def test_http_is_redirected_to_https(shop):
    answer = Visitor().get(f"{shop.http}/login.html?next=/cart", Host="evil.example")
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{HOST}/login.html?next=/cart")


def test_browser_with_the_cookies_of_39_flows_can_log_in(user, shop):
    start = f"{shop.url}/oauth/qq/login/?next=/"
    cookies = [f"__Host-qq_flow_{number:012x}=malformed" for number in range(13)]
    for visitor in [Visitor() for _ in range(26)]:
        assert visitor.get(start).status == 302
        cookies += [f"{cookie.name}={cookie.value}" for cookie in visitor.cookies]
    answer = user.visitor.get(start + "a" * 500, Cookie="; ".join(cookies))
    assert answer.status == 302
    assert len(str(answer.headers)) > 4096
    assert user.redeem_code(user.arrive()).status == 200


@pytest.mark.parametrize("size", [40_000, 64 * 1024, 70_000, 200_000, 5_000_000])
def test_body_that_is_too_long_costs_the_next_user_nothing(shop, size):
    paths = ("oauth/qq/users", "oauth/qq/login", "oauth/qq/callback", "authorizations", "users", "nowhere")
    # The next user's connection stays open, so that the call is sent at once.
    with closing(HTTPSConnection(urlsplit(shop.url).netloc, timeout=30)) as next_user:
        for path in paths * 2:
            answer = Visitor().post(f"{shop.url}/{path}/", {"mobile": "1" * (size - len('{"mobile": ""}'))})
            next_user.request("POST", "/oauth/qq/authorization/", "{}")
            with next_user.getresponse() as following:
                assert (following.status, json.load(following)["code"]) == (405, "invalid")
            assert (answer.status, answer.json()) == (413, {"message": "请求内容太大。", "code": "invalid"})


def test_request_that_may_have_reached_the_shop_is_neither_repeated_nor_logged(folder, tmp_path):
    received = []

    def close_on_the_second_request():
        """Answer one request, keep the connection open, and close it on the next request."""
        while True:
            client, _ = listener.accept()
            with client:
                while request := client.recv(65536):
                    received.append(request.split()[1])
                    if len(received) > 1:
                        break
                    client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    listener = processes.listen()
    threading.Thread(target=close_on_the_second_request, daemon=True).start()
    with proxies.nginx(tmp_path / "nginx", folder, f"{HOST}:{listener.getsockname()[1]}") as (_, https):
        statuses = [Visitor().get(f"{https}/?code={name}").status for name in "ab"]
    assert (statuses, received) == ([204, 502], [b"/?code=a", b"/?code=b"])
    assert "code=" not in nginx_logs(tmp_path)


def test_each_thread_keeps_one_database_connection_and_replaces_a_dead_one(shop):
    database_url, address = os.environ["DATABASE_URL"], f"{shop.gunicorn.url}/usernames/nobody/count/"
    query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"

    def wait_for_connections(dead):
        """Return the connections of the shop once each of its 16 threads has served, without these."""
        found = set()

        def have_served():
            assert {answer.status for answer in at_once(*[lambda: Visitor().get(address)] * 64)} == {200}
            found.clear()
            found.update(query_database(database_url, query))
            return len(found) == 16 and not found & dead

        processes.wait_until(have_served, "each of the 16 threads has served with one connection")
        return found

    before = wait_for_connections(set())
    for id in before:
        query_database(database_url, f"KILL {id}")
    wait_for_connections(before)


# haproxy --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind_haproxy(shop, folder):
    """The same shop behind haproxy: its http and https addresses, and the file of haproxy's log."""
    if not processes.find("haproxy"):
        pytest.skip("no haproxy")
    with proxies.haproxy(folder, folder, urlsplit(shop.gunicorn.url).netloc) as (http, https):
        yield SimpleNamespace(http=http, url=https, log=folder / "haproxy.log")


def test_login_through_haproxy_leaves_no_secret_in_its_log(shop, behind_haproxy):
    user = RemoteUser([processes.Shop(behind_haproxy.url, shop.var, shop.gunicorn.process)], shop.qq)
    # QQ sends the user back to the address that is registered, which is nginx's.
    code = user.come_back(user.sign_in().replace(shop.url, behind_haproxy.url))["code"]
    bind_token = user.redeem_code(code).json()["access_token"]
    answer = user.bind(user.fill_in(mobile := new_mobile(), bind_token))
    assert (answer.status, answer.json()["next"]) == (200, "/cart")
    user.visitor.get(f"{behind_haproxy.url}/mobiles/%0a{mobile}/{mobile[:4]}%3{mobile[4]}{mobile[5:]}/count/")

    log = behind_haproxy.log
    processes.wait_until(
        lambda: '"GET /mobiles/?***/***/count/" 404 ' in log.read_text(), "haproxy has written its log"
    )
    written = log.read_text()
    assert '"GET /sms_codes/***/" 200 ' in written
    assert '"GET /oauth/qq/users/" 200 ' in written
    for secret in (code, bind_token, mobile, "state=", "code=", "text=", answer.json()["token"]):
        assert secret not in written


def test_shop_gets_the_real_client_address_and_the_request_id_of_haproxy(shop, behind_haproxy, folder):
    forged = {"X_Forwarded_Proto": "http", "X_Request_ID": "forged-id"}
    Visitor(address="198.18.0.1").get(f"{behind_haproxy.url}/oauth/qq/login/", **forged)
    (log,) = (path.read_text() for path in folder.glob("shop-*.log"))
    event = [line for line in log.splitlines() if " meiduo.audit: start " in line][-1]
    assert " address=127.0.0.1 " in event
    request_id = re.search(r" request_id=([\w-]{36})", event)[1]
    processes.wait_until(lambda: request_id in behind_haproxy.log.read_text(), "haproxy has written it too")


def test_haproxy_redirects_http_to_https(behind_haproxy):
    answer = Visitor().get(f"{behind_haproxy.http}/login.html?next=/cart", Host="evil.example")
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{HOST}/login.html?next=/cart")


@pytest.mark.parametrize("size", [16_000, 17_000, 70_000, 5_000_000])
def test_body_that_is_too_long_for_haproxy_costs_the_next_user_nothing(behind_haproxy, size):
    with closing(HTTPSConnection(urlsplit(behind_haproxy.url).netloc, timeout=30)) as next_user:
        for path in ("oauth/qq/users", "authorizations", "nowhere") * 2:
            try:
                form = {"mobile": "1" * (size - len('{"mobile": ""}'))}
                answer = Visitor().post(f"{behind_haproxy.url}/{path}/", form)
                assert (answer.status == 413) == (size > 16_384)
            except OSError:  # haproxy answers and closes the connection, which the client may see first
                assert size > 64 * 1024
            next_user.request("POST", "/oauth/qq/authorization/", "{}")
            with next_user.getresponse() as following:
                assert (following.status, json.load(following)["code"]) == (405, "invalid")


def test_haproxy_repeats_only_gets_of_the_login(folder, tmp_path):
    received = []

    def close_on_every_request():
        while True:
            client, _ = listener.accept()
            with client:
                path = client.recv(65536).split()[1].decode()
                if path in ("/readyz", "/healthz"):
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                else:
                    received.append(path)

    listener = processes.listen()
    threading.Thread(target=close_on_every_request, daemon=True).start()
    with proxies.haproxy(tmp_path, folder, urlsplit(processes.address_of(listener)).netloc) as (_, https):
        answers = [Visitor().get(f"{https}/oauth/qq/users/?code=a"), Visitor().get(f"{https}/usernames/a/count/")]
        answers.append(Visitor().post(f"{https}/oauth/qq/users/", {}))
    for answer in answers:
        assert (answer.status, answer.json()["code"], answer.headers["Retry-After"]) == (502, "server_unavailable", "2")
    repeats = len(received) - 2
    assert received == ["/oauth/qq/users/?code=a"] * repeats + ["/usernames/a/count/", "/oauth/qq/users/"]
    assert repeats > 1


# The systemd unit -----------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(folder, tmp_path):
    """gunicorn as the unit starts it, in production mode behind nginx: process, log, socket and the shop's address."""
    path, log = tmp_path / "shop.sock", tmp_path / "unit.log"
    (command,) = re.findall("^ExecStart=(.+)$", (ROOT / "deploy/meiduo.service").read_text(), re.MULTILINE)
    words = command.split()
    for ours, here in {"/srv/meiduo/.venv/bin": sysconfig.get_path("scripts"), "/run/meiduo": str(tmp_path)}.items():
        words = [word.replace(ours, here) for word in words]
    environ = PRODUCTION | {"ALLOWED_HOSTS": HOST, "NUM_PROXIES": "1", "WEB_CONCURRENCY": "2"}
    environ |= {name: os.environ[name] for name in ("DATABASE_URL", "CACHE_URL")}
    environ["DRAIN_SECONDS"] = "0"
    environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(environ["NOTIFY_SOCKET"])
    systemd.settimeout(processes.SECONDS_TO_START)
    with (
        systemd,
        proxies.nginx(tmp_path / "nginx", folder, f"unix:{path}") as (_, https),
        processes.running(words, log, cwd=ROOT, env=environ) as process,
    ):
        assert systemd.recv(100).startswith(b"READY=1")
        yield process, log, path, https
    print(log.read_text())


def test_unit_knows_that_the_request_came_over_https_and_ends_after_answering_it(unit):
    process, log, path, url = unit
    answer = Visitor().get(f"{url}/oauth/qq/login/?next=/cart", X_Forwarded_Proto="http", X_Forwarded_Ssl="off")
    assert (answer.status, answer.headers["Location"][:41]) == (302, "https://graph.qq.com/oauth2.0/authorize?r")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        head = "POST /authorizations/ HTTP/1.1", f"Host: {HOST}", "X-Forwarded-Proto: https", "Expect: 100-continue"
        head += "Content-Type: application/json", "Content-Length: 2", "Connection: close", "", ""
        client.sendall("\r\n".join(head).encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        process.terminate()
        processes.wait_until(lambda: "Worker exiting" in log.read_text(), "the idle worker has ended")
        client.sendall(b"{}")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert process.wait(processes.SECONDS_TO_END) == 0
