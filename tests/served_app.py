"""A service for test_asgi_server.py, as a process: plain ASGI and Starlette under uvicorn, one worker.

Arguments: file descriptor of the listening socket, state directory, uvicorn's `http`, uvicorn's `lifespan`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def stream(request: Request) -> Response:
    """Without end, until the client goes."""

    async def body() -> Any:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    return StreamingResponse(body())


async def hang(request: Request) -> Response:
    """Begins to answer, and never ends."""

    async def body() -> Any:
        yield b"begun"
        await asyncio.Event().wait()

    return StreamingResponse(body())


async def finish(request: Request) -> Response:
    """Ends a little while after its first words, however the server feels by then."""

    async def body() -> Any:
        yield b"begun"
        await asyncio.sleep(0.3)
        yield b"ended"

    return StreamingResponse(body())


async def quiet(request: Request) -> Response:
    """Answers once nothing else is in flight."""
    while request.app.state.engine.in_flight() > 1:
        await asyncio.sleep(0.005)
    return PlainTextResponse("quiet")


async def fail(request: Request) -> Response:
    raise RuntimeError("the app's own fault")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "fail":
            raise RuntimeError("the app's own fault")
        await websocket.send_text(text)


class Compiled:
    """Outside of the middleware: says in a header whether there is anything left to compile when a request comes."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        module = sys.modules.get("otelslo.kernels.ring")
        compiled = b"yes" if module is not None and module._compiled else b"no"

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], (b"x-compiled", compiled)]}
            await send(message)

        await self.app(scope, receive, sent if scope["type"] == "http" else send)


def main(fd: str, state_dir: str, http: str, lifespan: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    slos = [
        SLO("a", group_by="route"),
        SLO("l", indicator="latency", threshold="60s"),
        SLO("w", indicator="websocket"),
    ]
    engine = Engine(slos, state_dir=state_dir)
    endpoints = (ok, echo, stream, hang, finish, quiet, fail)
    routes: list[Any] = [Route(f"/{f.__name__}", f, methods=["GET", "POST"]) for f in endpoints]
    app = Starlette(routes=[*routes, WebSocketRoute("/talk", talk)])
    app.state.engine = engine
    served = Compiled(SLOMiddleware(app, engine=engine))
    config = uvicorn.Config(
        served, http=http, lifespan=lifespan, log_level="critical", access_log=False, timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(fd))])


if __name__ == "__main__":
    main(*sys.argv[1:])
