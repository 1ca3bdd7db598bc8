"""The shop that `otelslo demo` serves: an app like anybody's, the middleware in one line, and trouble on demand.

A process of its own: `python -m otelslo.cli.demo_app FD` serves on an inherited listening socket, prints "ready", takes
words of trouble as lines on its standard input, and ends when that is closed, so that it never outlives the demo.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import threading

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from otelslo import default
from otelslo.asgi import SLOMiddleware

CHECKOUT, SEARCH = "checkout", "search"  # words of trouble
SLOS = """\
# The objectives of the demo; `otelslo check` explains them.
slos:
  - name: availability
    target: "99.9%"
    window: 30d
    description: every request of the shop

  - name: checkout-availability
    target: "99.5%"
    window: 30d
    match: {route: "/checkout/*"}

  - name: search-latency
    indicator: latency
    threshold: 200ms
    target: "95%"
    window: 28d
    match: {route: /search}
"""
EVERYTHING = "availability"  # the objective that counts every request

_FAILING = 0.4  # of checkouts, in trouble
_SLOW = 0.09  # of searches, in trouble
_ITEMS = 1000


class PaymentTimeout(Exception):
    """What a payment provider does to a checkout."""


class Shop:
    """The endpoints; `trouble` is what is wrong with them just now."""

    def __init__(self) -> None:
        self.trouble: frozenset[str] = frozenset()

    async def home(self, request: Request) -> Response:
        await asyncio.sleep(random.uniform(0.001, 0.004))
        return PlainTextResponse("welcome")

    async def item(self, request: Request) -> Response:
        await asyncio.sleep(random.uniform(0.001, 0.006))
        number = int(request.path_params["number"])
        return JSONResponse({"item": number}, status_code=200 if number < _ITEMS else 404)

    async def search(self, request: Request) -> Response:
        slow = SEARCH in self.trouble and random.random() < _SLOW
        await asyncio.sleep(random.uniform(0.3, 0.6) if slow else random.uniform(0.01, 0.05))
        return JSONResponse({"found": 3})

    async def checkout(self, request: Request) -> Response:
        await asyncio.sleep(random.uniform(0.004, 0.015))
        if CHECKOUT in self.trouble and random.random() < _FAILING:
            if random.random() < 0.5:
                raise PaymentTimeout("the payment provider did not answer")
            return PlainTextResponse("payments are not available", status_code=503)
        return JSONResponse({"paid": True})

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    def app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/", self.home),
                Route("/items/{number:int}", self.item),
                Route("/search", self.search),
                Route("/checkout/{cart}", self.checkout, methods=["POST"]),
                Route("/healthz", self.health),
            ]
        )
        app.add_middleware(SLOMiddleware)
        return app


class _Server(uvicorn.Server):
    """Says when it serves."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            print("ready", flush=True)


def _obey(shop: Shop, server: uvicorn.Server) -> None:
    for line in sys.stdin:
        shop.trouble = frozenset(line.split())
    if not server.started:
        os._exit(1)  # the demo went away before the first request
    server.should_exit = True


def serve(fd: int) -> None:
    """Serve until standard input is closed."""
    shop = Shop()
    config = uvicorn.Config(
        shop.app(),
        log_config=None,
        log_level="critical",  # the errors are the demo's own
        access_log=False,
        lifespan="on",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=3,
        headers=[("x-worker", str(os.getpid()))],
    )
    server = _Server(config)
    threading.Thread(target=_obey, args=(shop, server), daemon=True).start()
    server.run(sockets=[socket.socket(fileno=fd)])
    default.engine().close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
