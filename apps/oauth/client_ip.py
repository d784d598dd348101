"""The client's address, and the part of it that rate limits count by."""

from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.settings import api_settings


def get_client_ip(request: HttpRequest | Request) -> str:
    """Return the client's IP address, behind as many proxies as REST_FRAMEWORK["NUM_PROXIES"] says.

    Each proxy appends the address that called it to X-Forwarded-For. Entries further left are client-supplied and
    untrusted. Returns "" if the server was called through a Unix socket.
    """
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    proxies = api_settings.NUM_PROXIES or 0
    if 0 < proxies <= len(hops):
        with suppress(ValueError):  # the proxy does not append an address
            return _read_address(hops[-proxies].strip())
    address: str = request.META.get("REMOTE_ADDR", "")
    return address


def get_network(address: str) -> str:
    """Return the key that rate limits count an address by: an IPv4 address, or the /64 of an IPv6 address.

    A household owns a whole /64, so counting single IPv6 addresses would limit nothing.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"  # called through a Unix socket
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else f"{int(parsed) >> 64:x}"


@lru_cache  # a login asks several times
def _read_address(text: str) -> str:
    """Return an IP address as Python writes it; raises ValueError."""
    return str(ip_address(text))
