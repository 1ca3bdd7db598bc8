"""A service for test_uptime_server.py, as a process: uvicorn, one worker, whose health check lies.

Arguments: file descriptor of the listening socket, its port, the state directory.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from importlib.util import find_spec
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from otelslo import SLO, Engine, gauge
from otelslo.asgi import SLOMiddleware


async def healthz(request: Request) -> Response:
    return PlainTextResponse("ready")


async def work(request: Request) -> Response:
    return PlainTextResponse("no model is loaded", status_code=500)


async def block(request: Request) -> Response:
    """Keeps the event loop for 300 ms."""
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    return PlainTextResponse("blocked")


async def counted(request: Request) -> Response:
    """Answers once an objective (`slo`) has so many events: `good` and `bad`."""
    asked = request.query_params
    engine = request.app.state.engine
    while True:
        found = engine.count(asked["slo"], 3600 * 10**9)
        if found.good >= int(asked.get("good", 0)) and found.bad >= int(asked.get("bad", 0)):
            return PlainTextResponse(f"{found.good} {found.bad} {found.excluded}")
        await asyncio.sleep(0.02)


def main(fd: str, port: str, state_dir: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    # Patient, so that a machine with much else to do makes no difference.
    probe = {"url": f"http://127.0.0.1:{port}/healthz", "every": "12s", "timeout": "10s"}
    lag, memory, depth = {"gauge": "loop_lag"}, {"gauge": "memory"}, {"gauge": "depth"}
    quiet: dict[str, Any] = {"alerts": "off", "budgeting": "occurrences"}
    slos = [
        SLO("requests", match={"route": "/work"}, **quiet),
        SLO("up", indicator="uptime", options=probe, **quiet),
        SLO("up-text", indicator="uptime", options=probe | {"body": "loaded"}, **quiet),
        SLO("lag", indicator="saturation", threshold="100ms", options=lag, **quiet),
        SLO("depth", indicator="saturation", threshold=10, options=depth, **quiet),
    ]
    if find_spec("psutil") is not None:
        slos.append(SLO("memory", indicator="saturation", threshold="1TiB", options=memory, **quiet))
    gauge("depth", lambda: 11)
    engine = Engine(slos, state_dir=state_dir)
    app = Starlette(routes=[Route(f"/{f.__name__}", f) for f in (healthz, work, block, counted)])
    app.state.engine = engine
    config = uvicorn.Config(SLOMiddleware(app, engine=engine), log_level="critical", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(fd))])


if __name__ == "__main__":
    main(*sys.argv[1:])
