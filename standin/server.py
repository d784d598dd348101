"""Run the stand-in in a thread and control it from a test."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .app import StandIn
from .people import make_openid, make_unionid
from .state import APP_ID, APP_SECRET, CALLBACKS, CLIENT_ID, CLIENT_SECRET, MINI_APP_ID, MINI_APP_SECRET


class Connection(H11Protocol):
    """Gives the app its transport as `scope["state"]["transport"]`, for faults that break HTTP."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}
        # asyncio leaves Nagle's algorithm on for a listener passed to it: 40 ms per call on a kept connection.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)


class Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop at once, without waiting for calls: one that hangs never ends."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        while self.server_state.tasks:  # each ends when it notices the disconnect
            await asyncio.sleep(0.01)


class QQ:
    """A test's handle on a running stand-in: its address, its control API, and the person at the browser or phone."""

    app_id, app_secret = APP_ID, APP_SECRET
    mini_app_id, mini_app_secret = MINI_APP_ID, MINI_APP_SECRET

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self.url = url
        self.client_id = client_id
        self.client_secret = client_secret

    def behave(self, **changes: Any) -> None:
        """Change the behaviour, e.g. `behave(token={"fault": "slow", "seconds": 3}, errors="jsonp")`."""
        self._control("PUT", "behaviour", changes)

    def requests(self, path: str | None = None) -> list[dict[str, Any]]:
        """Return the recorded requests, oldest first; with `path`, only those to this path."""
        recorded: list[dict[str, Any]] = json.loads(self._call("GET", "/_standin/requests")[2])
        return [request for request in recorded if path in (None, request["path"])]

    def reset(self) -> None:
        """Forget all codes, tokens, recorded requests and changes of behaviour."""
        self._call("DELETE", "/_standin")

    def openid(self, person: str, client_id: str = "") -> str:
        """Return the person's openid for an application; default: the web application."""
        return make_openid(person, "" if client_id == self.client_id else client_id)

    def unionid(self, person: str) -> str:
        """Return the person's unionid, which is the same for the three applications."""
        return make_unionid(person)

    def app_token(self, person: str, client_id: str = APP_ID) -> str:
        """Log the person in to a phone app; return the access token that QQ's SDK gives the app."""
        return str(self._control("POST", "tokens", {"person": person, "client_id": client_id})["access_token"])

    def app_code(self, person: str, client_id: str = APP_ID) -> str:
        """Log the person in to a phone app by loginServerSide; return the code that QQ's SDK gives the app."""
        return str(self._control("POST", "tokens", {"person": person, "client_id": client_id, "kind": "code"})["code"])

    def mini_code(self, person: str) -> str:
        """Log the person in to the mini program; return its code."""
        return str(self._control("POST", "mini_codes", {"person": person})["code"])

    def sign_in(self, authorize_address: str, person: str) -> str:
        """Open the address and choose the person; return the redirect: to the callback or QQ's error page."""
        return self._decide(authorize_address, person=person)

    def cancel(self, authorize_address: str) -> str | None:
        """Open the address and cancel; return the redirect to the callback, or None if QQ makes none."""
        location = self._decide(authorize_address, cancel="1")
        return None if location.startswith(f"{self.url}/oauth2.0/show?") else location

    def _decide(self, authorize_address: str, **decision: str) -> str:
        if not authorize_address.startswith(f"{self.url}/oauth2.0/authorize?"):
            raise ValueError(f"not an address of this stand-in: {authorize_address}")
        _, page, _ = self._call("GET", authorize_address.removeprefix(self.url))
        if "?which=error&" in page:
            return page
        self._call("GET", page.removeprefix(self.url))
        query = parse_qsl(urlsplit(authorize_address).query, keep_blank_values=True)
        _, location, _ = self._call("POST", "/oauth2.0/authorize", urlencode([*query, *decision.items()]))
        return location

    def _control(self, method: str, name: str, document: dict[str, Any]) -> dict[str, Any]:
        """Call the control API; return its answer. Raises ValueError naming what is wrong with the document."""
        status, _, body = self._call(method, f"/_standin/{name}", json.dumps(document))
        answer: dict[str, Any] = json.loads(body)
        if status != 200:
            raise ValueError(answer["message"])
        return answer

    def _call(self, method: str, path: str, body: str | None = None) -> tuple[int, str, bytes]:
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("location", ""), answer.read()


@contextmanager
def running(
    *,
    callbacks: Iterable[str] = CALLBACKS,
    client_id: str = CLIENT_ID,
    client_secret: str = CLIENT_SECRET,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[QQ]:
    """Run a stand-in in a thread for the duration of the block; port 0 picks a free port."""
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    server = Server(
        uvicorn.Config(
            StandIn(callbacks, client_id, client_secret),
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,  # leave the logging of the test's process alone
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,  # a shop's connection survives a minute that a person spends on the login page
        )
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="QQ stand-in", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the stand-in did not start")
            time.sleep(0.01)
        bound_port = listener.getsockname()[1]
        yield QQ(f"http://{f'[{host}]' if ':' in host else host}:{bound_port}", client_id, client_secret)
    finally:
        server.should_exit = True
        thread.join()
