"""The URLs of page and API as browsers see them: origins, sites, and which of the two QQ returns to."""

import re
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

from django.urls import NoReverseMatch, reverse

from .conf import conf
from .validation import get_origin

# In a country's domain, these make the registered domain three labels long: shop.com.cn.
SECOND_LEVEL = {"ac", "co", "com", "edu", "gov", "mil", "net", "org"}


def is_url(value: Any) -> bool:
    """Whether this is an absolute http or https URL."""
    try:
        url = urlsplit(value)
        is_complete = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        return is_complete and not re.search(r"\s", value)  # urlsplit() drops some whitespace
    except (ValueError, TypeError, AttributeError):
        return False


def get_host(url: str) -> str:
    return urlsplit(url).hostname or ""


def is_loopback(url: str) -> bool:
    return re.fullmatch(r"localhost|::1|127(\.[0-9]{1,3}){3}", get_host(url)) is not None


def is_ip_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def has_domain(url: str) -> bool:
    """Whether the host has a name that can be registered."""
    return not is_ip_address(get_host(url)) and get_host(url).split(".")[-1] != "localhost"


def is_same_page(url: str, other: str) -> bool:
    """Whether two URLs have one origin and path; neither the final slash nor the query counts."""
    one, two = ((get_origin(parts), parts.path.rstrip("/")) for parts in map(urlsplit, (url, other)))
    return one == two


def format_origin(url: str) -> str:
    """Return the origin as browsers write it."""
    scheme, host, port = get_origin(urlsplit(url))
    netloc = f"[{host}]" if ":" in str(host) else host
    return f"{scheme}://{netloc}" if port == {"http": 80, "https": 443}[scheme] else f"{scheme}://{netloc}:{port}"


def guess_site(url: str) -> str:
    """Return scheme and, most likely, registered domain; browsers know it from a list of thousands of suffixes."""
    host = get_host(url)
    labels = host.split(".")
    is_longer = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SECOND_LEVEL
    domain = host if is_ip_address(host) else ".".join(labels[-3 if is_longer else -2 :])
    return f"{urlsplit(url).scheme}://{domain}"


# The shop's page and API ----------------------------------------------------------------------------------------------


def is_mounted() -> bool:
    try:
        return bool(reverse("oauth:callback"))
    except NoReverseMatch:
        return False


def get_mode() -> Literal["callback", "direct", None]:
    """Return whether QQ returns to our callback/ or direct to the page; None while a check says the URLs are wrong."""
    if not is_url(conf.REDIRECT_URI) or not is_url(conf.CALLBACK_PAGE) or not is_mounted():
        return None
    return "direct" if conf.is_direct else "callback"


def is_one_origin() -> bool:
    return format_origin(conf.CALLBACK_PAGE) == format_origin(conf.REDIRECT_URI)


def is_one_site() -> bool:
    """Whether browsers send the login's cookie when the page calls the API."""
    return guess_site(conf.CALLBACK_PAGE) == guess_site(conf.REDIRECT_URI)


def looks_like_callback() -> bool:
    """Whether QQ_REDIRECT_URI is not our callback/, though it looks as if that was meant."""
    if not is_mounted() or not conf.is_direct:
        return False
    if is_url(conf.CALLBACK_PAGE) and is_same_page(conf.CALLBACK_PAGE, conf.REDIRECT_URI):
        return False  # the page's own URL, set twice
    path, mount = urlsplit(conf.REDIRECT_URI).path, reverse("oauth:callback").removesuffix("callback/")
    return path.rstrip("/").endswith("/callback") or (mount != "/" and path.startswith(mount))
