"""Event streams for test_sse.py, by Starlette and by sse-starlette, under uvicorn as a process.

Arguments: file descriptor of the listening socket, state directory.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware

HAS_SSE_STARLETTE = importlib.util.find_spec("sse_starlette") is not None


async def events(how: str) -> AsyncIterator[str]:
    """Three, and then what is asked for: an end, an error, one more after a while, or no end."""
    for number in range(3):
        yield f"event {number}"
    if how == "fail":
        raise RuntimeError("the app's own fault")
    while how == "endless":
        await asyncio.sleep(0.01)
        yield "more"
    if how == "hang":
        await asyncio.Event().wait()


async def by_starlette(request: Request) -> Response:
    lines = (f"data: {text}\n\n" async for text in events(request.path_params["how"]))
    return StreamingResponse(lines, media_type="text/event-stream")


async def by_sse_starlette(request: Request) -> Response:
    from sse_starlette import EventSourceResponse

    return EventSourceResponse({"data": text} async for text in events(request.path_params["how"]))


async def quiet(request: Request) -> Response:
    """Answers once nothing else is in flight."""
    while request.app.state.engine.in_flight() > 1:
        await asyncio.sleep(0.005)
    return PlainTextResponse("quiet")


def application(engine: Engine, **options: Any) -> SLOMiddleware:
    routes = [Route("/starlette/{how}", by_starlette), Route("/quiet", quiet)]
    if HAS_SSE_STARLETTE:
        routes.append(Route("/sse_starlette/{how}", by_sse_starlette))
    app = Starlette(routes=routes)
    app.state.engine = engine
    return SLOMiddleware(app, engine=engine, **options)


if __name__ == "__main__":
    slos = [SLO("a", group_by="route", health_checks=["/quiet"])]
    served = application(Engine(slos, state_dir=sys.argv[2]))
    config = uvicorn.Config(served, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
