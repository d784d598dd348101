"""The part of QQ that the browser visits: /oauth2.0/authorize and the pages under /oauth2.0/show."""

from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import pages
from .errors import TEXTS, Refused, get_text
from .people import PEOPLE
from .state import Fields, State


def redirect(location: str) -> Response:
    location = quote(location, safe=":/?#[]@!$&'()*+,;=%~")  # "%" is safe: existing escapes stay as they are
    return Response(status_code=302, headers={"location": location, "cache-control": "no-cache"})


class AuthorizePages:
    def __init__(self, state: State) -> None:
        self.state = state
        self.routes = [
            Route("/", self.index),
            Route("/oauth2.0/authorize", self.authorize, methods=["GET"]),
            Route("/oauth2.0/authorize", self.decide, methods=["POST"]),
            Route("/oauth2.0/show", self.show),
        ]

    async def index(self, request: Request) -> Response:
        return pages.index(self.state.client_id, self.state.callbacks)

    async def authorize(self, request: Request) -> Response:
        query: str = request.scope["query_string"].decode("latin-1")
        fields: Fields = request.state.fields
        try:
            self._check(fields)
        except Refused as refused:
            return _redirect_to_error_page(request, refused.number, query)
        return redirect(f"{request.base_url}oauth2.0/show?which=Login&display={_get_display(fields)}&{query}")

    async def decide(self, request: Request) -> Response:
        """Handle the login form: the query of the authorize call plus `person` or `cancel`."""
        fields: Fields = request.state.fields
        person = fields.pop("person", "")
        is_cancelled = bool(fields.pop("cancel", ""))
        try:
            self._check(fields)
        except Refused as refused:
            return _redirect_to_error_page(request, refused.number, urlencode(fields))
        if is_cancelled:
            if _get_display(fields) == "pc":
                return redirect(f"{request.base_url}oauth2.0/show?which=closed")
            return _redirect_to_callback(fields, usercancel="1")
        if not person:
            return redirect(f"{request.base_url}oauth2.0/authorize?{urlencode(fields)}")
        scope = fields.get("scope") or "get_user_info"
        code = self.state.add_code(self.state.client_id, person, fields["redirect_uri"], scope)
        return _redirect_to_callback(fields, code=code)

    async def show(self, request: Request) -> Response:
        query = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        # QQ's own parameters precede the shop's: the first of a repeated name counts here.
        fields = dict(reversed(query))
        which = fields.get("which")
        if which == "closed":
            return pages.closed()
        if which == "Login":
            return pages.login(query[2:], PEOPLE, self.state.client_id)
        number = fields.get("error", "")
        text = get_text(int(number), fields.get("client_id", "")) if number in map(str, TEXTS) else "unknown error"
        return pages.error(f"{text}({number})", fields.get("redirect_uri", ""), self.state.callbacks)

    def _check(self, fields: Fields) -> None:
        if fields.get("response_type") != "code":
            raise Refused(100000)
        if not fields.get("client_id"):
            raise Refused(100001)
        if fields["client_id"] != self.state.client_id:
            raise Refused(100008)
        if not self.state.is_registered(fields.get("redirect_uri", "")):
            raise Refused(100010)
        if not self.state.behaviour["online"]:
            raise Refused(100011)


def _get_display(fields: Fields) -> str:
    return "mobile" if fields.get("display") == "mobile" else "pc"


def _redirect_to_callback(fields: Fields, **added: str) -> Response:
    redirect_uri = fields["redirect_uri"]
    if "state" in fields:
        added["state"] = fields["state"]
    separator = "&" if "?" in redirect_uri else "?"
    return redirect(redirect_uri + separator + urlencode(added, quote_via=quote))


def _redirect_to_error_page(request: Request, number: int, query: str) -> Response:
    display = _get_display(request.state.fields)
    return redirect(f"{request.base_url}oauth2.0/show?which=error&display={display}&error={number}&{query}")
