"""The shop's figures for Prometheus, under gunicorn with two workers; the dashboard and the alerts that read them."""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from apps.oauth.contrib.prometheus import get_reasons
from meiduo.metrics import MAX_SCRAPES
from tests.tools import processes
from tests.tools.processes import HOST, ROOT, Visitor
from tests.tools.remote_users import RemoteUser, at_once, new_mobile, shop_and_qq, status_and_code
from tests.tools.requirements import requirement

WORKERS = 2
ALERTS = ROOT / "deploy/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana.json"
ADDED = {"instance", "job", "le"}  # labels that Prometheus adds, and a histogram's own


class Site:
    """A shop with its own database and cache, which can be stopped."""

    def __init__(self, folder, stack):
        self.folder, self.port = folder, processes.free_port()
        self.database, self.cache = (stack.enter_context(ExitStack()) for _ in range(2))
        database_url = self.database.enter_context(processes.database(folder))
        cache_url = self.cache.enter_context(processes.redis(folder))
        environ = {"DATABASE_URL": database_url, "CACHE_URL": cache_url, "TMPDIR": str(folder)}
        environ |= {"GUNICORN_CMD_ARGS": "--config=python:meiduo.server", "METRICS": f"{HOST}:{self.port}"}
        environ |= {"QQ_MAX_CONCURRENCY": "1", "QQ_TIMEOUT": "20", "SMS_HOURLY_CEILING": "2"}
        self.shop, self.qq = stack.enter_context(shop_and_qq(folder, workers=WORKERS, **environ))

    def new_user(self):
        return RemoteUser([self.shop], self.qq)

    def scrape(self):
        """Return {name: [(labels, value), …]} of all figures."""
        answer = Visitor().get(f"http://{HOST}:{self.port}/metrics")
        assert answer.status == 200
        samples = chain.from_iterable(family.samples for family in text_string_to_metric_families(answer.body.decode()))
        found = {}
        for sample in samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def read(self, name, **labels):
        """Return the sum of the samples with these labels."""
        return sum(value for has, value in self.scrape().get(name, []) if labels.items() <= has.items())

    def wait_for(self, expected, name, **labels):
        processes.wait_until(lambda: self.read(name, **labels) == expected, f"{name} {labels} is {expected}")

    def files(self):
        return sorted(path.name for path in self.folder.glob("meiduo-metrics-*/*"))


def find_workers(shop):
    """Return the process ids of a shop's workers."""
    pid = shop.process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as children:
        return {int(child) for child in children.read().split()}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    with ExitStack() as stack:
        yield Site(folder, stack)
    assert not list(folder.glob("meiduo-metrics-*"))


@pytest.mark.servers
def test_counters_never_fall_and_gauges_of_the_dead_go(site):
    started = 0
    site.qq.behave(token={"fault": "hang"})
    with ThreadPoolExecutor() as pool:
        while site.read("qq_login_slots_in_use") < WORKERS:  # until a call in each worker waits for QQ
            user = site.new_user()
            pool.submit(user.redeem_code, user.arrive())
            started += 1
        assert site.read("qq_login_slots") == WORKERS
        before = site.scrape()

        for left, worker in enumerate(find_workers(site.shop)):
            os.kill(worker, signal.SIGKILL)
            site.wait_for(WORKERS - 1 - left, "qq_login_slots_in_use")
        site.wait_for(WORKERS, "qq_login_slots")

    old = find_workers(site.shop)
    site.shop.process.send_signal(signal.SIGHUP)
    processes.wait_until(
        lambda: len(find_workers(site.shop)) == WORKERS and not find_workers(site.shop) & old, "new workers run"
    )
    site.wait_for(WORKERS, "qq_login_slots")

    for name in ("qq_login_events_total", "qq_login_qq_seconds_count"):
        assert [(name, labels) for labels, value in before[name] if site.read(name, **labels) < value] == []
    assert site.read("qq_login_events_total", event="callback") == started
    # During the reload there are twice as many workers. Each had three files, and left them to the next one.
    assert len(site.files()) <= 2 * WORKERS * 3


@requirement("15.16")
@pytest.mark.servers
def test_figures_are_on_their_own_port_alone_and_name_no_software(site):
    assert Visitor().get(f"{site.shop.url}/metrics").status == 404
    address = f"http://{HOST}:{site.port}"
    assert [Visitor().get(address + path).status for path in ("/", "/metrics/", "/oauth/qq/login/")] == [404] * 3
    assert Visitor().post(f"{address}/metrics", {}).status == 501
    answer = Visitor().get(f"{address}/metrics?name[]=x")
    assert answer.status == 200
    assert not re.search(rb"python|django|gunicorn", answer.body + bytes(answer.headers), re.IGNORECASE)
    assert {name.partition("_")[0] for name in site.scrape()} == {"qq"}
    (files,) = site.folder.glob("meiduo-metrics-*")
    assert files.stat().st_mode & 0o777 == 0o700


@pytest.mark.servers
def test_shop_runs_without_figures_if_their_files_cannot_be_written(tmp_path):
    environ = {
        "DATABASE_URL": "",
        "CACHE_URL": "",
        "TMPDIR": str(tmp_path),
        "METRICS": f"{HOST}:{processes.free_port()}",
    }
    with shop_and_qq(tmp_path, GUNICORN_CMD_ARGS="--config=python:meiduo.server", **environ) as (shop, qq):
        (files,) = tmp_path.glob("meiduo-metrics-*")
        shutil.rmtree(files)
        os.kill(find_workers(shop).pop(), signal.SIGKILL)
        assert "access_token" in RemoteUser([shop], qq).get_login()
    (log,) = tmp_path.glob("shop-*.log")
    assert "ERROR gunicorn.error: A worker runs without figures: No such file or directory" in log.read_text()


@pytest.mark.servers
def test_slow_scrapes_hold_few_threads(site):
    def count_threads():
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in find_workers(site.shop))

    site.wait_for(WORKERS, "qq_login_slots")
    most = count_threads() + WORKERS * MAX_SCRAPES
    with ExitStack() as stack:
        for _ in range(50):
            slow = stack.enter_context(socket.create_connection((HOST, site.port), 10))
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        processes.wait_until(lambda: is_closed(slow) or count_threads() > most, "the last one is answered")
        assert count_threads() <= most
    processes.wait_until(lambda: count_threads() <= most - WORKERS * MAX_SCRAPES, "the threads end")
    assert site.scrape()


def is_closed(client):
    return select.select([client], [], [], 0)[0]


# The dashboard and the alerts -----------------------------------------------------------------------------------------


def read_alerts():
    return [rule["expr"] for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def read_dashboard():
    """Return the queries, each as the last five minutes of all machines."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [query.replace("$instance", ".+").replace("$__rate_interval", "5m") for query in queries]


EXPRESSIONS = [*read_alerts(), *read_dashboard()]
SELECTOR = re.compile(r"(qq_login_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|=|!=)"([^"]*)"')


def matches(labels, matchers):
    """Return whether a sample has the labels of a selector, with values that it selects."""
    return all(
        name in labels
        and bool(re.fullmatch(value if "~" in kind else re.escape(value), labels[name])) == (kind[0] == "=")
        for name, kind, value in matchers
        if name not in ADDED
    )


def make_everything_happen(site):
    """Log in, and let QQ, the limits, the database and the cache fail."""
    site.qq.reset()
    user = site.new_user()
    assert user.bind(user.fill_in(new_mobile())).status == 200
    assert "token" in user.get_login()

    site.qq.behave(token={"fault": "slow", "seconds": 1})
    users = [site.new_user() for _ in range(WORKERS + 1)]
    codes = [user.arrive() for user in users]
    answers = at_once(*[lambda u=u, c=c: u.redeem_code(c) for u, c in zip(users, codes, strict=True)])
    assert (503, "qq_busy") in map(status_and_code, answers)

    site.qq.behave(token={"fault": "error", "number": 100008})
    user = site.new_user()
    assert status_and_code(user.redeem_code(user.arrive())) == (503, "qq_misconfigured")
    site.qq.behave(token=None)

    user.receive_sms_code(new_mobile())
    assert user.visitor.get(site.shop.sms_address(user.visitor, new_mobile())).status == 429

    site.database.close()
    user = site.new_user()
    assert status_and_code(user.redeem_code(user.arrive())) == (503, "database_unavailable")

    site.qq.behave(token={"fault": "502"})
    while not site.read("qq_login_circuits", state="open"):
        user = site.new_user()
        assert status_and_code(user.redeem_code(user.arrive())) == (503, "qq_unavailable")

    site.cache.close()
    assert "error=cache_unavailable" in site.new_user().start()


@pytest.mark.servers
def test_dashboard_and_alerts_read_figures_that_exist(site):
    make_everything_happen(site)  # the last test: the database and the cache stay stopped
    figures = site.scrape()
    assert site.read("qq_login_events_total", outcome="alarm") == 2
    found = [(name, MATCHER.findall(labels)) for query in EXPRESSIONS for name, labels in SELECTOR.findall(query)]
    assert len(found) >= len(EXPRESSIONS)
    missing = [
        (name, matchers)
        for name, matchers in found
        if not any(matches(labels, matchers) for labels, _ in figures.get(name, ()))
    ]
    assert missing == []
    for query in EXPRESSIONS:
        names = [figures[name][0][0] for name, _ in SELECTOR.findall(query)]
        grouped = {label for labels in re.findall(r"by \(([^)]*)\)", query) for label in labels.split(", ")}
        assert grouped <= ADDED.union(*names)
    assert {
        reason for _, each in found for name, _, value in each if name == "reason" for reason in value.split("|")
    } <= (get_reasons())


@pytest.mark.skipif(not processes.find("promtool"), reason="no promtool")
def test_promtool_accepts_the_alerts_and_each_fires_on_its_trouble(tmp_path):
    queries = tmp_path / "dashboard.yml"  # promtool reads queries as rules
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(read_dashboard())]
    queries.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    for command in (["check", "rules", ALERTS, queries], ["test", "rules", ROOT / "tests/e2e/alerts_test.yml"]):
        done = subprocess.run([processes.find("promtool"), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tried_and_each_panel_has_a_title_and_an_explanation():
    tried = (ROOT / "tests/e2e/alerts_test.yml").read_text("utf-8")
    rules = [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]
    assert [rule["alert"] for rule in rules if f'alertname="{rule["alert"]}"' not in tried] == []
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        assert panel["type"] == "row" or (panel["title"] and panel["description"])
