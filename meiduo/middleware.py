"""Middleware that applies to every request, and a wrapper around the WSGI application."""

import re

from django.conf import settings
from django.utils.translation import get_language

from apps.oauth.errors import BodyTooLarge, get_message
from apps.oauth.exception_handler import make_json_error
from apps.oauth.language import use_language

# A media type with simple parameters. The only charset is UTF-8.
CONTENT_TYPE = re.compile(
    r"""[\w!#$&^.+-]+/[\w!#$&^.+-]+[ \t]*             # e.g. application/json
        (?:;[ \t]*(?:(?:
            charset=(?:utf-?8|"utf-?8") |
            (?!charset=)[\w-]+=(?:[^\s";]*|"[^";]*")  # e.g. the boundary of multipart
        )[ \t]*)?)*""",
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)
# The script in the HTML of the pages. Each page has it, and this hash, in its own policy too.
SCRIPT_HASH = "sha256-BRnP5GYm4G4RLhDQIfXOtbwZqxtDJvDtCnG2nE3SYCY="
HTML_POLICY = (
    f"default-src 'none'; script-src 'self' '{SCRIPT_HASH}'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"  # the admin needs forms and data:
)
AVATAR_PAGES = ("/oauth_callback.html", "/account.html")  # show pictures of QQ's
AVATAR_POLICY = HTML_POLICY.replace("img-src 'self' data:", "img-src 'self' data: https://*.qlogo.cn")
OTHER_POLICY = "default-src 'none'; frame-ancestors 'none'"


def add_safe_headers(get_response):
    """Add missing headers: a content security policy, no caching, no content sniffing."""

    def middleware(request):
        response = get_response(request)
        is_html = response.get("Content-Type", "").startswith("text/html") and not 300 <= response.status_code < 400
        is_debug_page = settings.DEBUG and is_html and response.status_code >= 400  # its style and script are inline
        # 304 does not say which type the browser's copy has, and its headers replace those of the copy.
        if response.status_code != 304 and not is_debug_page:
            html_policy = AVATAR_POLICY if request.path_info in AVATAR_PAGES else HTML_POLICY
            response.headers.setdefault("Content-Security-Policy", html_policy if is_html else OTHER_POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if settings.ADMIN_PATH and request.path_info.startswith(f"/{settings.ADMIN_PATH}"):
            # With the shop's own policy, browsers send the admin's forms with `Origin: null`, which Django refuses.
            response.headers["Referrer-Policy"] = "same-origin"
        return response

    return middleware


def use_request_language(get_response):
    """Use the language of the QQ login, which depends on Accept-Language alone."""

    def middleware(request):
        with use_language(request):
            response = get_response(request)
            response.headers.setdefault("Content-Language", get_language())
        return response

    return middleware


def refuse_unsupported_bodies(get_response):
    """Refuse a body that is longer than any of the shop's forms, or that may be encoded otherwise than in UTF-8."""

    def middleware(request):
        if request.META.get("CONTENT_TYPE") and not CONTENT_TYPE.fullmatch(request.META["CONTENT_TYPE"]):
            return make_json_error(415, get_message("invalid"), "invalid")
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return make_json_error(413, str(BodyTooLarge().detail), "invalid")
        return get_response(request)  # Django reads no body without a length, such as a chunked one

    return middleware


def replace_bad_content_type(application):
    """Wrap a WSGI application: replace a Content-Type that would make Django fail.

    Django uses the charset while it creates the request, before any middleware: `charset=base64` would be a 500.
    `refuse_unsupported_bodies` refuses the replacement.
    """

    def handle(environ, start_response):
        if not CONTENT_TYPE.fullmatch(environ.get("CONTENT_TYPE") or "a/b"):
            environ["CONTENT_TYPE"] = "unreadable"
        return application(environ, start_response)

    return handle
