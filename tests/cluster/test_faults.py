"""The login on many machines, each time with something broken under load.

`make test-cluster` runs it. Each test prints a line of figures and fails unless nothing is lost, doubled, unfinished,
undocumented or accepted again.
"""

import pytest

pytestmark = pytest.mark.cluster

WARM_UP = 10  # seconds; the values used in it are sent again afterwards


def test_killed_app_server(cluster, under_load):
    with under_load("An app server is killed") as load:
        load.wait(WARM_UP)
        with load.fault():
            cluster.apps[0].kill()
        load.wait(5)
        cluster.apps[0].start()
        load.wait(5)


def test_rolling_restart(cluster, under_load):
    with under_load("Rolling restart") as load:
        load.wait(WARM_UP)
        for app in cluster.apps:
            with load.fault():
                app.restart()
            load.wait(3)
    assert load.documented == {}  # no call has failed


def test_killed_redis_master(cluster, under_load):
    with under_load("The Redis master is killed") as load:
        load.wait(WARM_UP)
        master = cluster.cache.master()
        with load.fault():
            master.kill()
            cluster.cache.wait_for_master(other_than=master)
        load.wait(15)


def test_killed_redis_master_comes_back_empty(cluster, under_load):
    with under_load("The killed Redis master comes back empty") as load:
        load.wait(WARM_UP)
        master = cluster.cache.master()
        with load.fault():
            master.kill()
            cluster.cache.wait_for_master(other_than=master)
        with load.fault():
            master.start()
        load.wait(15)


def test_planned_failover(cluster, under_load):
    with under_load("Planned failover of Redis") as load:
        load.wait(WARM_UP)
        with load.fault():
            cluster.cache.fail_over()
        load.wait(15)


def test_killed_galera_node(cluster, under_load):
    with under_load("A Galera node is killed") as load:
        load.wait(WARM_UP)
        with load.fault():
            cluster.nodes[0].kill()
        load.wait(15)


def test_lost_quorum(cluster, under_load):
    with under_load("The quorum is lost for 15 seconds") as load:
        load.wait(WARM_UP)
        with load.fault():
            cluster.database.cut_quorum()
        load.wait(15)
        with load.fault():
            cluster.database.heal()
        load.wait(5)


def test_form_sent_to_two_servers_at_once(cluster, under_load):
    conflicts = cluster.count_conflicts()
    with under_load("Each form is sent to both app servers at once", both=True) as load, load.fault():
        load.wait(30)
    assert load.wrong_refusals == 0
    assert cluster.count_conflicts() > conflicts  # so the nodes had to decide


def test_alter_table_at_another_node(cluster, under_load):
    with under_load("40 times ALTER TABLE at the third node") as load:
        load.wait(WARM_UP)
        for change in ("ADD COLUMN extra INT", "DROP COLUMN extra") * 20:
            with load.fault():
                cluster.nodes[2].query(f"ALTER TABLE tb_oauth_qq {change}")
            load.wait(0.3)


def test_app_server_cut_off_from_the_cache(cluster, under_load):
    with under_load("An app server is cut off from the cache for 10 seconds") as load:
        load.wait(WARM_UP)
        with load.fault():
            cluster.wires.cut()
        load.wait(10)
        with load.fault():
            cluster.wires.join()
        load.wait(5)
