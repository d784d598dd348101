"""The shop at two of three nodes of a MariaDB Galera cluster, for longer than tests/e2e/test_galera.py."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.cluster import nodes
from tests.tools.galera import galera, missing
from tests.tools.remote_users import new_mobile, status_and_code

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if lacking := missing():
        pytest.skip(f"no {', '.join(lacking)}")
    with galera(tmp_path_factory.mktemp("g") / "galera") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def pair(cluster, tmp_path_factory):
    with nodes.pair(tmp_path_factory.mktemp("shops"), cluster.nodes[:2]) as pair:
        yield pair
    assert pair.find_inconsistencies() == {}


@pytest.mark.parametrize(
    ("check", "rounds"),
    [
        (nodes.send_one_form_to_both, 300),
        (nodes.read_what_the_other_node_has_written, 100),
        (nodes.add_qq_while_the_password_is_reset, 50),
        (nodes.remove_both_qqs_at_once, 50),
    ],
)
def test_two_nodes_are_as_one(pair, check, rounds):
    for _ in range(rounds):
        check(pair)


def test_reads_do_not_notice_alters_at_another_node(cluster, pair):
    user = pair.new_user()
    user.create_account(pair.nodes[0])
    user.log_in()
    ended = Event()

    def read(shop):
        answers = []
        while not ended.is_set():
            answers.append(status_and_code(user.read_account(shop)))
        return answers

    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(read, shop) for shop in (0, 1, 0, 1)]
        try:
            for number in range(40):
                change = "DROP COLUMN spare" if number % 2 else "ADD COLUMN spare INT, ALGORITHM = COPY"
                cluster.nodes[2].query(f"ALTER TABLE tb_users {change}")
        finally:
            ended.set()
    answers = [answer for future in reading for answer in future.result()]
    print(f"{len(answers)} reads")
    assert set(answers) == {(200, None)}


def test_node_without_its_quorum_is_an_outage_and_nothing_is_lost(cluster, pair):
    user = pair.new_user()
    form = user.fill_in(new_mobile())
    cluster.cut_quorum()
    try:
        assert [status_and_code(user.bind(form, shop)) for shop in (0, 1, 0, 1)] == [(503, "database_unavailable")] * 4
        assert "OperationalError 1205.\n         -> A node of Galera without its quorum" in nodes.examine(
            cluster.nodes[0]
        )
    finally:
        cluster.heal()
    first, second = user.bind(form).json(), user.bind(form, 1).json()
    assert first["user_id"] == second["user_id"]


def test_commit_under_way_when_the_quorum_is_lost_is_not_made_twice(cluster, pair):
    user = pair.new_user()
    form = user.fill_in(new_mobile())
    for node in cluster.nodes[1:]:
        node.pause()
    try:
        assert status_and_code(user.bind(form)) == (503, "database_unavailable")
    finally:
        for node in cluster.nodes[1:]:
            node.resume()
        cluster.wait()
    login = user.bind(form, 1).json()
    rows = pair.nodes[1].query("SELECT user_id FROM tb_oauth_qq WHERE openid = %s", pair.qq.openid(user.person))
    assert rows == ((login["user_id"],),)


def test_doctor_describes_the_cluster(cluster, pair):
    assert "note     The database is a Galera cluster of 3." in nodes.examine(cluster.nodes[0])
    cluster.nodes[2].stop()
    try:
        assert "warning  The database's cluster has 2 nodes." in nodes.examine(cluster.nodes[0])
    finally:
        cluster.nodes[2].start()
