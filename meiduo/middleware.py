"""What holds at the shop's edge for every call and every answer, whatever view it is for."""

import re

from django.conf import settings
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _

from apps.oauth.language import choose_language as language_of
from apps.users.errors import answer

# A media type whose parameters are plain; a charset is UTF-8 or not named at all.
CONTENT_TYPE = re.compile(
    r"""[\w!#$&^.+-]+/[\w!#$&^.+-]+[ \t]*             # as application/json
        (?:;[ \t]*(?:(?:
            charset=(?:utf-?8|"utf-?8") |
            (?!charset=)[\w-]+=(?:[^\s";]*|"[^";]*")  # as multipart's boundary
        )[ \t]*)?)*""",
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)
HTML_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"  # forms and data: are the admin's
)
OTHER_POLICY = "default-src 'none'; frame-ancestors 'none'"


def with_safe_headers(get_response):
    """Give each answer the headers it lacks: a content policy, no copies kept, no guessed types."""

    def middleware(request):
        response = get_response(request)
        is_html = response.get("Content-Type", "").startswith("text/html") and not 300 <= response.status_code < 400
        is_debug_page = settings.DEBUG and is_html and response.status_code >= 400  # has its style and script inside
        # Not Modified does not say what kind the copy is whose headers it would replace.
        if response.status_code != 304 and not is_debug_page:
            response.headers.setdefault("Content-Security-Policy", HTML_POLICY if is_html else OTHER_POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if settings.ADMIN_PATH and request.path_info.startswith(f"/{settings.ADMIN_PATH}"):
            # Under the shop's own policy a browser sends the admin's forms with `Origin: null`, which Django refuses.
            response.headers["Referrer-Policy"] = "same-origin"
        return response

    return middleware


def in_the_shoppers_language(get_response):
    """Speak the language that QQ login speaks, which goes by Accept-Language alone."""

    def middleware(request):
        with override(language_of(request.META.get("HTTP_ACCEPT_LANGUAGE", ""))):
            response = get_response(request)
            response.headers.setdefault("Content-Language", get_language())
        return response

    return middleware


def short_utf8_bodies_only(get_response):
    """Refuse a body that is longer than any call of the shop has, or may be in another encoding than UTF-8."""

    def middleware(request):
        if request.META.get("CONTENT_TYPE") and not CONTENT_TYPE.fullmatch(request.META["CONTENT_TYPE"]):
            return answer(415, _("请求不正确。"), "invalid")
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return answer(413, _("请求内容过大。"), "invalid")
        return get_response(request)  # without a length, as in a chunked body, Django reads nothing

    return middleware


def plain_content_types_only(application):
    """
    Wrap a WSGI application so that Django need not read a Content-Type it would stumble over.

    It decodes by the charset while it makes the request, before any middleware: `charset=base64` is a 500 there. What
    takes its place is refused by `short_utf8_bodies_only`.
    """

    def handle(environ, start_response):
        if not CONTENT_TYPE.fullmatch(environ.get("CONTENT_TYPE") or "a/b"):
            environ["CONTENT_TYPE"] = "unreadable"
        return application(environ, start_response)

    return handle
