"""One worker of a real service, as a process: Starlette, SLOMiddleware outermost, uvicorn on a shared port.

Run as a script with its settings as JSON. Before a request is answered its id is appended to a ledger file by one
write, so that what a killed worker had begun is known without asking the engine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware
from otelslo.ring.geometry import Geometry

ID_HEADER = "x-request-id"
SLOW_THRESHOLD_MS = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker is told; `ready_fd` gets one line once it accepts connections."""

    port: int
    state_dir: str
    ledger: str
    ready_fd: int

    def text(self) -> str:
        return json.dumps(asdict(self))


def objectives() -> list[SLO]:
    """Several on every route: two of equal meaning, one by latency that nothing exceeds, one that /slow always does."""
    return [
        SLO("all", target="99.9%"),
        SLO("twin", target="99%", window="7d"),
        SLO("items", match={"route": "/items/*"}),
        SLO("answered", indicator="latency", threshold="120s", target="95%"),
        SLO("slow", indicator="latency", threshold=f"{SLOW_THRESHOLD_MS}ms", match={"route": "/slow"}, target="50%"),
        SLO("by-route", group_by="route", target="99%"),
    ]


def engine_of(state_dir: str) -> Engine:
    """Of the objectives above, or of $OTELSLO_CONFIG: then in slots of a second, so that short alerts soon resolve."""
    if "OTELSLO_CONFIG" not in os.environ:
        return Engine(objectives(), state_dir=Path(state_dir))
    return Engine(state_dir=Path(state_dir), geometry=Geometry(fine_ns=10**9, fine_per_coarse=300))


async def ok(request: Request) -> Response:
    return PlainTextResponse(request.headers.get(ID_HEADER, ""))


async def boom(request: Request) -> Response:
    return PlainTextResponse("boom", 500)


async def raises(request: Request) -> Response:
    raise RuntimeError("the app's own fault")


async def forbidden(request: Request) -> Response:
    return PlainTextResponse("no", 403)


async def slow(request: Request) -> Response:
    await asyncio.sleep(int(request.query_params["ms"]) / 1000)
    return PlainTextResponse(request.headers.get(ID_HEADER, ""))


_lane = asyncio.Semaphore(1)


async def narrow(request: Request) -> Response:
    """One at a time; the others wait."""
    async with _lane:
        await asyncio.sleep(int(request.query_params["ms"]) / 1000)
    return PlainTextResponse("")


async def refuse(request: Request) -> Response:
    request.scope["otelslo"].shed()
    return PlainTextResponse("too many", 503)


class Ledger:
    """Inside of the middleware under test: writes a line for each request before the app sees it."""

    def __init__(self, app: Any, path: str) -> None:
        self._app = app
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            found = [value for key, value in scope["headers"] if key == ID_HEADER.encode()]
            if found:
                os.write(self._fd, found[0] + b"\n")
        await self._app(scope, receive, send)


def application(engine: Engine, ledger: str) -> Starlette:
    """The service; its lifespan closes the engine, which commits what is not yet committed."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        engine.close()

    routes = [
        Route("/ok", ok),
        Route("/boom", boom),
        Route("/raise", raises),
        Route("/forbidden", forbidden),
        Route("/slow", slow),
        Route("/narrow", narrow),
        Route("/refuse", refuse),
        Route("/items/{id}", ok),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(Ledger, path=ledger)
    app.add_middleware(SLOMiddleware, engine=engine)
    return app


class Announcing(uvicorn.Server):
    """Says when it accepts connections."""

    ready_fd = -1

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        os.write(self.ready_fd, b"ready\n")
        os.close(self.ready_fd)


def main(arguments: Sequence[str]) -> None:
    settings = Settings(**json.loads(arguments[0]))
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(name)s %(message)s")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", settings.port))
    app = application(engine_of(settings.state_dir), settings.ledger)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=600, lifespan="on")
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # not a traceback for each request that raises
    server = Announcing(config)
    server.ready_fd = settings.ready_fd
    server.run(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1:])
