"""The shop at two nodes of a MariaDB Galera cluster. More, and with three nodes, in tests/cluster/test_galera.py."""

import pytest

from tests.cluster import nodes
from tests.tools.galera import galera, missing

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    if lacking := missing():
        pytest.skip(f"no {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("g")
    with galera(folder / "galera", 2) as cluster, nodes.pair(folder, cluster.nodes) as pair:
        yield pair


@pytest.mark.parametrize(
    "check",
    [
        nodes.send_one_form_to_both,
        nodes.read_what_the_other_node_has_written,
        nodes.add_qq_while_the_password_is_reset,
        nodes.remove_both_qqs_at_once,
    ],
)
def test_two_nodes_are_as_one(pair, check):
    for _ in range(5):
        check(pair)
    assert pair.find_inconsistencies() == {}


def test_commands_read_what_the_other_node_has_written_too(pair):
    assert "wsrep_sync_wait" not in nodes.examine(pair.nodes[0])
