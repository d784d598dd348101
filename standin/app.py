"""The pretend graph.qq.com as an ASGI application."""

import time
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from .api import ServerAPI
from .authorize import AuthorizePages
from .control import ControlAPI
from .phone import Phone
from .state import CALLBACKS, CLIENT_ID, CLIENT_SECRET, Fields, State


class StandIn:
    """A QQ with three registered applications: web, phone app, mini program. Nothing is stored outside this object."""

    def __init__(
        self, callbacks: Iterable[str] = CALLBACKS, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET
    ) -> None:
        self.state = State(callbacks, client_id, client_secret)
        parts = (AuthorizePages(self.state), ServerAPI(self.state), Phone(self.state), ControlAPI(self.state))
        self.router = Router([route for part in parts for route in part.routes], redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record the request, leave its parameters in `request.state.fields`, and pass it to its route."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if not scope["path"].startswith(("/_standin", "/favicon.ico")):
            # The last of a repeated name counts; the fields of a form are added to those of the query.
            fields: Fields = dict(request.query_params)
            request.state.fields = fields
            received_at = time.time()
            if request.method == "POST":
                try:
                    body = await request.body()
                except ClientDisconnect:
                    return
                fields.update(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
            self.state.requests.append(
                {
                    "method": request.method,
                    "path": scope["path"],
                    "query": dict(fields),
                    "headers": dict(request.headers),
                    "time": received_at,
                }
            )
        await self.router(scope, receive, send)
