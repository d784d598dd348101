"""Starts the whole topology on loopback, and breaks it.

    haproxy ── app1 ── wires ──────┬─ 3 Sentinels, 3 Redis: a master and two replicas
            └─ app2 ───────────────┘
               each app ── haproxy ─── 3 Galera nodes: app1 prefers node1, app2 prefers node2

Both apps write, at two nodes: that is harder for the shop than the single writer of the guide.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress

import standin
from tests.cluster import haproxy
from tests.cluster.wires import wires
from tests.tools.galera import galera
from tests.tools.processes import HOST, ROOT, Visitor, end, free_port, manage, settings_of, wait_until
from tests.tools.redis_servers import sentinel_group

DRAIN_SECONDS = 4  # haproxy notices within two


class App:
    """One app server: gunicorn as in production."""

    def __init__(self, name, folder, environ):
        self.name, self.port, self.process = name, free_port(), None
        self.url, self.log, self.environ = f"http://{HOST}:{self.port}", folder / f"{name}.log", environ

    def launch(self):
        command = [sys.executable, "-m", "gunicorn", "-c", "python:meiduo.server", "--bind", f"{HOST}:{self.port}"]
        with self.log.open("ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output, "start_new_session": True}
            self.process = subprocess.Popen([*command, "meiduo.wsgi"], cwd=ROOT, env=self.environ, **options)

    def wait(self):
        wait_until(self.is_ready, f"{self.name} is ready")

    def start(self):
        self.launch()
        self.wait()

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text("utf-8")[-3000:]
        with suppress(OSError):
            return Visitor().get(f"{self.url}/readyz").status == 200
        return False

    def restart(self):
        """End it as systemd does, and start it again."""
        self.process.terminate()
        end(self.process, DRAIN_SECONDS + 35)
        self.start()

    def kill(self):
        """Kill all processes at once, as a machine that fails."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Cluster:
    def __init__(self, folder, stack):
        self.var = folder
        self.bound = {}  # {person: the user id that the shop has told them}
        enter = stack.enter_context
        self.database = enter(galera(folder / "database"))
        self.nodes = self.database.nodes
        # With one replica, a master that took its place would have none, and take no writes until the other is back.
        options = ["min-replicas-to-write 1", "min-replicas-max-lag 10"]
        # A busy machine answers late. With less than two seconds, Sentinels give up a master that they have just named.
        self.cache = enter(sentinel_group(folder / "cache", replicas=2, down_after=2000, options=options))
        self.wires = enter(wires([server.port for server in (*self.cache.sentinels, *self.cache.servers)]))
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.callback = f"{self.url}/oauth/qq/callback/"
        self.qq = enter(standin.running(callbacks=[self.callback]))

        cut_cache = self.cache.url
        for sentinel in self.cache.sentinels:
            cut_cache = cut_cache.replace(f":{sentinel.port}", f":{self.wires.ports[sentinel.port]}")
        self.apps, parts = [], []
        for name, cache_url, nodes in (
            ("app1", cut_cache, self.nodes),
            ("app2", self.cache.url, self.nodes[1:] + self.nodes[:1]),
        ):
            port = free_port()
            parts.append(haproxy.make_database(f"database-{name}", port, nodes))
            environ = self.make_environ(nodes[0].url.replace(f":{nodes[0].port}/", f":{port}/"), cache_url)
            self.apps.append(App(name, folder, environ))
        self.nodes[0].query(f"CREATE USER {haproxy.MONITOR}@'{HOST}'")
        manage(self.apps[0].environ | {"DATABASE_URL": self.nodes[0].url}, "migrate", "--verbosity=0", "--skip-checks")
        shop = haproxy.make_shop(self.port, {app.name: app.port for app in self.apps})
        self.haproxy = enter(haproxy.haproxy(folder, self.port, shop, *parts))
        for app in self.apps:
            stack.callback(app.kill)
            app.launch()
        self.wait()

    def make_environ(self, database_url, cache_url):
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("QQ_", "STANDIN_"))},
            **settings_of(self.qq),
            "DJANGO_SETTINGS_MODULE": "tests.cluster.settings",
            "PYTHONUTF8": "1",
            "VAR_DIR": str(self.var),
            "CAPTCHA_LOG": str(self.var / "captcha.log"),
            "DATABASE_URL": database_url,
            "CACHE_URL": cache_url,
            "NUM_PROXIES": "2",  # haproxy, and one that gives each user an address: see Visitor
            "WEB_CONCURRENCY": "2",
            "DRAIN_SECONDS": str(DRAIN_SECONDS),
            "QQ_REDIRECT_URI": self.callback,
            "QQ_CALLBACK_PAGE": f"{self.url}/oauth_callback.html",
        }

    def wait(self):
        """Wait until everything works."""
        self.database.wait()
        for app in self.apps:
            app.wait()
        wait_until(self.cache_is_whole, "Redis has a master and two replicas")
        wait_until(lambda: set(self.haproxy.states().values()) <= {"UP", "no check"}, "haproxy sees all servers")

    def cache_is_whole(self):
        master = self.cache.master()
        told = [server.client().info("replication") for server in self.cache.servers if server is not master]
        return all((info.get("master_port"), info.get("master_link_status")) == (master.port, "up") for info in told)

    def heal(self):
        """Repair and start again whatever a test has broken, and wait until everything works."""
        self.wires.join()
        for server in (*self.cache.servers, *self.cache.sentinels):
            if server.process.poll() is not None:
                server.start()
        for node in self.nodes:
            if node.process.poll() is not None:
                node.launch()
        self.database.heal()
        for app in self.apps:
            if app.process.poll() is not None:
                app.launch()
        self.wait()

    def count_conflicts(self):
        """Return how many transactions the cluster has refused because another node was first."""
        names = ("wsrep_local_cert_failures", "wsrep_local_bf_aborts")
        return sum(int(node.status(name)) for node in self.nodes for name in names)

    def read_image(self, image):
        """Return the text of an image code, from the shop's log."""
        with (self.var / "captcha.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 65536))
            lines = log.read().decode().splitlines()
        return next(json.loads(line)["text"] for line in lines if str(image) in line)

    def read_sms(self, mobile):
        """Return the code of the last SMS to this number."""
        return (self.var / f"sms-{mobile}").read_text()


@contextmanager
def cluster(folder):
    with ExitStack() as stack:
        yield Cluster(folder, stack)
