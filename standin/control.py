"""The control API under /_standin, with which a test changes the behaviour, reads the requests and resets the state."""

import json
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .behaviour import Fault, read_behaviour
from .state import State


class ControlAPI:
    def __init__(self, state: State) -> None:
        self.state = state
        self.routes = [
            Route("/_standin", self.reset, methods=["DELETE"]),
            Route("/_standin/behaviour", self.change_behaviour, methods=["PUT"]),
            Route("/_standin/requests", self.list_requests),
        ]

    async def reset(self, request: Request) -> Response:
        self.state.reset()
        return Response(status_code=204)

    async def change_behaviour(self, request: Request) -> Response:
        try:
            changes = read_behaviour(json.loads(await request.body()))
        except ValueError as error:
            return JSONResponse({"message": str(error)}, 400)
        behaviour = self.state.behaviour
        behaviour.update(changes)
        shown = {key: asdict(value) if isinstance(value, Fault) else value for key, value in behaviour.items()}
        return Response(json.dumps(shown), media_type="application/json")

    async def list_requests(self, request: Request) -> Response:
        return JSONResponse(self.state.requests)
