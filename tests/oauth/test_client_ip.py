"""The client's address behind trusted proxies, as the audit log records it."""

import pytest

from apps.oauth.signals import qq_audited
from tests.tools.requirements import requirement


@requirement("9.6")
@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, "192.0.2.7"),
        (0, "198.51.100.1", "192.0.2.7"),
        (None, "198.51.100.1", "192.0.2.7"),
        (1, None, "192.0.2.7"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),  # the first one is supplied by the client
        (2, "203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "198.51.100.1", "192.0.2.7"),
        (1, "", "192.0.2.7"),
        (1, "203.0.113.9, ", "192.0.2.7"),
        (1, "not an address", "192.0.2.7"),
        (1, "203.0.113.9\r\nX: y", "192.0.2.7"),
        (1, "2001:db8::1", "2001:db8::1"),
    ],
)
def test_address_is_taken_from_as_many_proxies_as_are_trusted(
    browser, set_proxies, connect, proxies, forwarded, address
):
    set_proxies(proxies)
    addresses = []
    connect(lambda fields, **_: addresses.append(fields["address"]), qq_audited)
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    browser.get("/oauth/qq/login/", headers=headers, REMOTE_ADDR="192.0.2.7")
    assert addresses == [address]
