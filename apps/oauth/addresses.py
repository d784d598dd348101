"""Who calls: the client's address, and what of it a limit is kept by."""

from contextlib import suppress
from ipaddress import IPv6Address, ip_address

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.settings import api_settings


def client_address(request: HttpRequest | Request) -> str:
    """Return the address of whoever calls, behind as many proxies as REST_FRAMEWORK's NUM_PROXIES says.

    Each proxy adds the address it was called from on the right; what stands further left is the caller's own word.
    """
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    proxies = api_settings.NUM_PROXIES or 0
    if 0 < proxies <= len(hops):
        with suppress(ValueError):
            return str(ip_address(hops[-proxies].strip()))
    address: str = request.META.get("REMOTE_ADDR", "")
    return address


def network(address: str) -> str:
    """Return what a limit is kept by: an IPv4 address, or the /64 of an IPv6 one, of which nobody has less."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"  # the server was called through a Unix socket
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else f"{int(parsed) >> 64:x}"
