"""The fixtures of the cluster's tests: `cluster` is started once, and repaired after each test."""

import os
from contextlib import contextmanager

import pytest

from tests.cluster import checks
from tests.cluster.load import Load
from tests.tools import processes

AROUND = 1  # seconds around a fault in which the cache may forget: its replicas get each write a moment later


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory):
    pytest.importorskip("MySQLdb", reason="no mysqlclient")
    from tests.cluster import topology
    from tests.tools import galera

    lacking = [*galera.missing(), *(["haproxy"] if not processes.find("haproxy") else [])]
    if lacking:
        pytest.skip(f"no {', '.join(lacking)}")
    with topology.cluster(tmp_path_factory.mktemp("c")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster):
    running_cluster.qq.reset()
    return running_cluster


@pytest.fixture
def under_load(cluster, pytestconfig):
    """A context manager: users log in while the block runs. At its end everything is repaired and checked."""

    @contextmanager
    def under_load(name, **options):
        load = Load(cluster, float(os.environ.get("RATE", "20")), **options)
        load.start()
        try:
            yield load
        finally:
            try:
                cluster.heal()
            finally:
                load.end()
        lines, result = report(cluster, load)
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{name}: {lines}", flush=True)
        assert result == {"undocumented": {}, "not finished": [], "lost": set(), "doubled": {}, "accepted again": []}

    return under_load


def report(cluster, load):
    """Return a line of figures, and those that must be empty."""
    lost, doubled = checks.find_lost(cluster, load), checks.find_doubled(cluster)
    accepted = [(kind, load.seconds_from_fault(at)) for kind, at in checks.find_accepted_again(cluster, load)]
    late = [(kind, seconds) for kind, seconds in accepted if abs(seconds) > AROUND]
    figures = {
        "users": len(load.users),
        "pressed the QQ button again": f"{load.share:.1%} ({load.refused_at_start} refused at the start, "
        f"{dict(load.new_starts)})",
        "documented 5xx": dict(load.documented),
        "undocumented": dict(load.undocumented),
        "not finished": load.given_up,
        "lost": lost,
        "doubled": doubled,
        "accepted again": f"{len(accepted) - len(late)} around the fault, {late} beyond",
        "wrong refusals": load.wrong_refusals,
        "longest fault": f"{max(ended - began for began, ended in load.faults):.1f} s",
    }
    bad = {"undocumented": load.undocumented, "not finished": load.given_up, "lost": lost, "doubled": doubled}
    return "; ".join(f"{what} {value or 0}" for what, value in figures.items()), bad | {"accepted again": late}
