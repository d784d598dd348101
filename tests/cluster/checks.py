"""What must be true after a run, whatever was broken in it."""

import random
from concurrent.futures import ThreadPoolExecutor

from tests.cluster.users import User, code_of
from tests.tools.processes import Visitor
from tests.tools.remote_users import find_inconsistencies, new_mobile, query_database, read_page

BEFORE, AFTER = 10, 15  # seconds around the faults: values used then are sent again
SAMPLE = 30
ROWS = ("SELECT openid, user_id FROM tb_oauth_qq ORDER BY 1", "SELECT id, mobile FROM tb_users ORDER BY 1")


def find_lost(cluster, load):
    """Return the QQs that are not bound as their user was told: by the run, at any node, or if they log in now."""
    again = [User(cluster, *pair) for pair in some(list(cluster.bound.items()))]
    a_few_at_once(User.run, again)
    lost = {user.person for user in load.users if user.user_id and user.logged_in_as not in (None, user.user_id)}
    lost |= {user.person for user in again if user.logged_in_as != user.user_id}
    for node in cluster.nodes:
        rows = dict(query_database(node.url, ROWS[0]))
        lost |= {person for person, user_id in cluster.bound.items() if rows.get(cluster.qq.openid(person)) != user_id}
    return lost


def find_doubled(cluster):
    """Return what must not exist at each node, and the nodes that differ from the first."""
    wrong = {node.name: find_inconsistencies(node.url) for node in cluster.nodes}
    seen = {node.name: [query_database(node.url, rows) for rows in ROWS] for node in cluster.nodes}
    differing = [name for name in seen if seen[name] != seen[cluster.nodes[0].name]]
    return {name: rows for name, rows in wrong.items() if rows} | dict.fromkeys(differing, "differs")


def find_accepted_again(cluster, load):
    """Send used values again. Return (kind, time of the first use) of those accepted, and of codes QQ got twice."""
    first, last = load.faults[0][0] - BEFORE, load.faults[-1][1] + AFTER
    uses = [use for user in load.users for use in user.uses if first < use.at < last]
    tries = [(cluster, use, use.cookies) for use in uses] + [(cluster, use, ()) for use in some(uses)]
    again = a_few_at_once(lambda each: is_accepted(*each), tries)
    accepted = [(use.kind, use.at) for (_, use, _), is_bad in zip(tries, again, strict=True) if is_bad]
    asked = {}
    for request in cluster.qq.requests("/oauth2.0/token"):
        asked.setdefault(request["query"]["code"], []).append(request["time"])
    return accepted + [("code at QQ", times[0]) for times in asked.values() if len(times) > 1]


def is_accepted(cluster, use, cookies):
    """Return whether a browser with these cookies can use the value once more. The documented repeats do not count."""
    visitor, users = Visitor(), f"{cluster.url}/oauth/qq/users/"
    for cookie in cookies:
        visitor.cookies.set_cookie(cookie)
    if use.kind == "state":
        page = read_page(visitor.get(use.value).headers["Location"])
        return "code" in page and not (cookies and page["code"] == use.result)
    if use.kind == "code":
        # In its own browser the answer is repeated. Whether QQ was asked again is looked up afterwards.
        return code_of(visitor.get(f"{users}?code={use.value}")) is None and not cookies
    form = {**use.value, "mobile": new_mobile()}
    return code_of(visitor.post(users, form)) not in ("already_bound", "bind_token_invalid", "bind_tries")


def some(values):
    return random.sample(values, min(SAMPLE, len(values)))


def a_few_at_once(call, values):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(call, values))
