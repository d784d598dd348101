"""The shop on three MySQL servers with Group Replication and one primary: failover, and a lost majority."""

import pytest

from tests.cluster import nodes
from tests.tools.debian import NotAvailable
from tests.tools.group_replication import group_replication
from tests.tools.processes import wait_until
from tests.tools.remote_users import new_mobile, status_and_code

pytestmark = pytest.mark.cluster
DOWN = (503, "database_unavailable")


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    folder = tmp_path_factory.mktemp("r") / "group"
    try:
        with group_replication(folder, unreachable_majority_timeout="30") as group:
            yield group
    except NotAvailable as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def pair(group, tmp_path_factory):
    """The first shop is at the primary, the second at another server."""
    with nodes.pair(tmp_path_factory.mktemp("shops"), group.members[:2]) as pair:
        yield pair
    assert pair.find_inconsistencies() == {}


def find_users(member, pair, user):
    """Return the ids of the users who have this user's QQ."""
    rows = member.query("SELECT user_id FROM tb_oauth_qq WHERE openid = %s", pair.qq.openid(user.person))
    return [user_id for (user_id,) in rows]


def test_doctor_describes_the_group(group, pair):
    told = nodes.examine(group.members[0])
    assert "note     The database is a replication group of 3; 3 are online." in told
    assert "super_read_only" not in told
    assert "wrong    The database takes no writes (super_read_only)" in nodes.examine(group.members[1])


def test_commit_under_way_when_the_majority_is_lost_is_found_by_the_repeat(group, pair):
    user = pair.new_user()
    form = user.fill_in(new_mobile())
    primary, *others = group.members
    for member in others:
        member.pause()
    try:
        # The write waits, and the shop stops waiting for it. It is carried out all the same.
        assert status_and_code(user.bind(form)) == DOWN
        assert status_and_code(user.bind(form)) == DOWN
    finally:
        for member in others:
            member.resume()
    wait_until(lambda: find_users(primary, pair, user), "the write is carried out")
    answer = user.bind(form)
    assert status_and_code(answer) == (200, None)
    assert find_users(primary, pair, user) == [answer.json()["user_id"]]
    wait_until(lambda: {member.role for member in group.members} == {"PRIMARY", "SECONDARY"}, "all are members again")


def test_secondary_is_an_outage_for_writes_until_it_is_the_primary(group, pair):
    user = pair.new_user()
    form = user.fill_in(new_mobile())
    assert [status_and_code(user.bind(form, 1)) for _ in range(3)] == [DOWN] * 3
    group.members[0].kill()
    if group.wait_for_primary() is not group.members[1]:
        group.members[1].become_primary()
    answers = [user.bind(form, 1) for _ in range(2)]
    assert [status_and_code(answer) for answer in answers] == [(200, None)] * 2
    assert find_users(group.members[1], pair, user) == [answers[0].json()["user_id"]]
    group.members[0].start()
    wait_until(lambda: find_users(group.members[0], pair, user), "the old primary has caught up")
