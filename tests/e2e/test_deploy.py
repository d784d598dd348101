"""What deploy/ ships, run as it is but for names, ports and paths: nginx, TLS, gunicorn and the whole login."""

import os
import re
import socket
import sysconfig
import threading
from contextlib import contextmanager

import pytest
import trustme

import standin
from tests.meiduo.test_settings import PRODUCTION
from tests.tools import processes
from tests.tools.processes import HOST, ROOT, Visitor
from tests.tools.shoppers import PASSWORD, Shopper, ask_database, at_once, new_mobile

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(processes.find("nginx") is None, reason="no nginx"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("deploy")


@pytest.fixture(scope="module")
def certificate(folder):
    """nginx's key and certificate, from an authority that this process believes in."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued = authority.issue_cert(HOST)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "fullchain.pem", append=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        yield folder


@contextmanager
def nginx(folder, certificate, *, http, https, gunicorn):
    """Run nginx with the site of deploy/, on other ports, and what nginx.conf itself has in any distribution."""
    folder.mkdir()
    site = (ROOT / "deploy/nginx.conf").read_text()
    for ours, here in {
        r"listen \[::\]:\d+.*;": "",
        r"listen 80;": f"listen {HOST}:{http};",
        r"listen 443 ": f"listen {HOST}:{https} ",
        r"api\.shop\.example": HOST,
        r"127\.0\.0\.1:8000": f"{HOST}:{gunicorn}",
        r"/etc/ssl/meiduo": str(certificate),
        r"/var/log/nginx": str(folder),
    }.items():
        site, count = re.subn(ours, here, site)
        assert count, ours
    (folder / "site.conf").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    main = folder / "main.conf"
    main.write_text(
        f"daemon off; pid {folder / 'pid'}; {'user root;' if os.geteuid() == 0 else ''}"
        f"events {{}} http {{ {temporary} include {folder / 'site.conf'}; }}"
    )
    log = folder / "start.log"
    command = [processes.find("nginx"), "-e", str(folder / "start.log"), "-c", str(main)]
    with processes.running(command, log) as process:
        processes.wait_until(lambda: process.poll() is not None or processes.accepts(https), "nginx listens")
        assert process.poll() is None, log.read_text()
        yield


@pytest.fixture(scope="module")
def place(certificate, folder):
    """The shop behind nginx: its address over https and http, the stand-in for QQ, the shop, and gunicorn's address."""
    listener, http, https = processes.listen(), processes.free_port(), processes.free_port()
    url = f"https://{HOST}:{https}"
    callback = f"{url}/oauth/qq/callback/"
    environ = {"QQ_REDIRECT_URI": callback, "QQ_CALLBACK_PAGE": f"{url}/oauth_callback.html"}
    environ["GUNICORN_CMD_ARGS"] = "--config=python:meiduo.server"
    with (
        nginx(folder / "nginx", certificate, http=http, https=https, gunicorn=listener.getsockname()[1]),
        standin.running(callbacks=[callback]) as qq,
        processes.shop(folder, qq, listener=listener, **environ) as shop,
    ):
        yield url, f"http://{HOST}:{http}", qq, processes.Shop(url, shop.var, shop.process), shop.url


@pytest.fixture
def shopper(place):
    *_, qq, shop, _ = place
    return Shopper([shop], qq)


def logs(folder):
    return "".join(path.read_text() for path in (folder / "nginx").glob("*.log"))


def test_a_first_and_a_second_login_go_through_and_leave_no_secret_in_nginxs_logs(shopper, place, folder):
    address = shopper.sign_in()
    code = shopper.come_back(address)["code"]
    bind_token = shopper.collect(code).json()["access_token"]
    mobile = new_mobile()
    form = {"mobile": mobile, "password": PASSWORD, "access_token": bind_token}
    form["sms_code"] = shopper.receive_sms_code(mobile)
    answer = shopper.bind(form)
    assert (answer.status, answer.json()["next"]) == (200, "/cart")
    assert {cookie.name[:7] for cookie in shopper.visitor.cookies} == {"__Host-"}
    again = shopper.collect(shopper.arrive())
    assert (again.status, again.json()["user_id"]) == (200, answer.json()["user_id"])
    shopper.visitor.get(f"{place[0]}/mobiles/%0a{mobile}/{mobile}/count/")

    processes.wait_until(lambda: '"GET /mobiles/\\x0A***" 404 ' in logs(folder), "nginx has written it down")
    written = logs(folder)
    assert '"GET /sms_codes/***" 200 ' in written
    assert written.count('"GET /oauth/qq/users/" 200 ') == 2
    for secret in (code, bind_token, mobile, "state=", "code=", "text=", answer.json()["token"]):
        assert secret not in written


def test_the_shop_hears_the_callers_own_address_over_https_and_nginxs_number_of_the_call(place, folder):
    url, *_ = place
    Visitor(address="198.18.0.1").get(f"{url}/oauth/qq/login/", X_Forwarded_Proto="http", X_Request_ID="forged")
    (log,) = (path.read_text() for path in folder.glob("shop-*.log"))
    event = [line for line in log.splitlines() if '"event": "start"' in line][-1]
    assert '"address": "127.0.0.1"' in event
    assert "198.18.0.1" not in log
    assert "forged" not in event
    number = re.search(r'"request_id": "(\w{32})"', event)[1]
    processes.wait_until(lambda: number in logs(folder), "nginx has written it down too")


def test_whoever_comes_by_http_is_sent_to_https(place):
    _, http, *_ = place
    answer = Visitor().get(f"{http}/login.html?next=/cart", Host="evil.example")
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{HOST}/login.html?next=/cart")


def test_a_browser_that_forgets_no_login_it_ever_began_still_gets_in(shopper, place):
    url, *_ = place
    visitors = [Visitor() for _ in range(29)]
    held = [f"__Host-qq_flow_{number:012x}=bent" for number in range(10)]
    for visitor in visitors:
        assert visitor.get(f"{url}/oauth/qq/login/?next=/").status == 302
        held += [f"{cookie.name}={cookie.value}" for cookie in visitor.cookies]
    answer = shopper.visitor.get(f"{url}/oauth/qq/login/?next=/{'a' * 500}", Cookie="; ".join(held))
    assert answer.status == 302
    assert len(str(answer.headers)) > 4096
    assert shopper.collect(shopper.arrive()).status == 200


def test_a_body_that_is_too_long_is_refused_in_the_shops_words(place):
    url, *_ = place
    answer = Visitor().post(f"{url}/oauth/qq/users/", {"mobile": "1" * 40_000})
    assert (answer.status, answer.json()["code"]) == (413, "invalid")


def test_a_call_that_may_have_reached_the_shop_is_neither_sent_again_nor_written_down(certificate, tmp_path):
    heard = []

    def hang_up_on_the_second_call():
        """Be a shop that answers one call, keeps the connection, and dies of the next one."""
        with listener:
            while True:
                client, _ = listener.accept()
                with client:
                    while request := client.recv(65536):
                        heard.append(request.split()[1])
                        if len(heard) > 1:
                            break
                        client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    listener, http, https = processes.listen(), processes.free_port(), processes.free_port()
    threading.Thread(target=hang_up_on_the_second_call, daemon=True).start()
    with nginx(tmp_path / "nginx", certificate, http=http, https=https, gunicorn=listener.getsockname()[1]):
        statuses = [Visitor().get(f"https://{HOST}:{https}/?code={name}").status for name in "ab"]
    assert (statuses, heard) == ([204, 502], [b"/?code=a", b"/?code=b"])
    assert not [path for path in (tmp_path / "nginx").glob("*.log") if "code=" in path.read_text()]


def test_each_thread_keeps_one_connection_to_mysql_and_none_that_is_dead(place):
    *_, gunicorn = place

    def connections():
        return ask_database(
            os.environ["DATABASE_URL"],
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
        )

    def ask_from_all_threads():
        asked = f"{gunicorn}/usernames/nobody/count/"
        assert {answer.status for answer in at_once(*[lambda: Visitor().get(asked)] * 64)} == {200}
        return len(connections()) >= 16

    processes.wait_until(ask_from_all_threads, "each of the 16 threads has served")
    before = connections()
    for id in before:
        ask_database(os.environ["DATABASE_URL"], f"KILL {id}")
    processes.wait_until(ask_from_all_threads, "each of the 16 threads has served again")
    assert (len(before), len(connections())) == (16, 16)
    assert not set(before) & set(connections())


# The unit -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(certificate, tmp_path):
    """gunicorn as the unit runs it, in production, behind nginx: its process, log and port, and the shop's address."""
    port, http, https = (processes.free_port() for _ in range(3))
    (command,) = re.findall("^ExecStart=(.+)$", (ROOT / "deploy/meiduo.service").read_text(), re.MULTILINE)
    command = command.replace("/srv/meiduo/.venv/bin", sysconfig.get_path("scripts")).replace("8000", str(port))
    environ = PRODUCTION | {"ALLOWED_HOSTS": HOST, "NUM_PROXIES": "1", "WEB_CONCURRENCY": "2"}
    environ |= {name: os.environ[name] for name in ("DATABASE_URL", "CACHE_URL")}
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(tmp_path / "notify"))
    systemd.settimeout(processes.SECONDS_TO_START)
    environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    log = tmp_path / "unit.log"
    with (
        systemd,
        nginx(tmp_path / "nginx", certificate, http=http, https=https, gunicorn=port),
        processes.running(command.split(), log, cwd=ROOT, env=environ) as process,
    ):
        assert systemd.recv(100).startswith(b"READY=1")
        processes.wait_until(lambda: processes.accepts(port), "gunicorn listens")
        yield process, log, port, f"https://{HOST}:{https}"
    print(log.read_text())


def test_in_production_the_shop_knows_that_nginx_was_called_over_https(unit):
    *_, url = unit
    answer = Visitor().get(f"{url}/oauth/qq/login/?next=/cart", X_Forwarded_Proto="http")
    assert (answer.status, answer.headers["Location"][:41]) == (302, "https://graph.qq.com/oauth2.0/authorize?r")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_call_under_way_is_answered_before_gunicorn_ends(unit):
    process, log, port, _ = unit
    with socket.create_connection((HOST, port), timeout=30) as client:
        head = "POST /authorizations/ HTTP/1.1", f"Host: {HOST}", "X-Forwarded-Proto: https", "Expect: 100-continue"
        head += "Content-Type: application/json", "Content-Length: 2", "Connection: close", "", ""
        client.sendall("\r\n".join(head).encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        process.terminate()
        processes.wait_until(lambda: "Worker exiting" in log.read_text(), "the worker that has no call has ended")
        client.sendall(b"{}")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert process.wait(processes.SECONDS_TO_END) == 0
