"""The URLs of page and API as browsers see them: origins, sites, and which of the two QQ returns to."""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from django.urls import NoReverseMatch, reverse

from .conf import conf
from .validation import get_origin


def is_url(value: Any) -> bool:
    """Whether this is an absolute http or https URL, without whitespace, which urlsplit() may drop."""
    try:
        url = urlsplit(value)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and not re.search(r"\s", value)
    except (ValueError, TypeError, AttributeError):
        return False


def is_loopback(url: str) -> bool:
    return re.fullmatch(r"localhost|::1|127(\.[0-9]{1,3}){3}", urlsplit(url).hostname or "") is not None


def has_domain(url: str) -> bool:
    """Whether the host is a name that can be registered: not an IP address, a bare word or below localhost."""
    name, _, suffix = (urlsplit(url).hostname or "").rpartition(".")
    return bool(name) and not suffix.isdecimal() and suffix != "localhost"


def guess_site(url: str) -> tuple[str, str]:
    """Return scheme and, most likely, registered domain; browsers know it from a list of thousands of suffixes."""
    host = urlsplit(url).hostname or ""
    if has_domain(url):
        is_longer = re.search(r"\.(ac|co|com|edu|gov|mil|net|org)\.[a-z]{2}$", host)  # shop.com.cn
        host = ".".join(host.split(".")[-3 if is_longer else -2 :])
    return urlsplit(url).scheme, host


def format_origin(url: str) -> str:
    """Return the origin as browsers write it: in lower case, without the default port."""
    scheme, netloc, *_ = urlsplit(url)
    return f"{scheme}://{netloc.lower().removesuffix(':443' if scheme == 'https' else ':80')}"


def is_same_page(url: str, other: str) -> bool:
    """Whether two URLs have one origin and path; neither the final slash nor the query counts."""
    one, two = ((get_origin(parts), parts.path.rstrip("/")) for parts in map(urlsplit, (url, other)))
    return one == two


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
