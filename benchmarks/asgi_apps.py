"""What the ASGI measurements drive: two plain apps, a ready scope, and the statement that runs one request.

No event loop: neither app waits for anything, so one `send(None)` runs a request to its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from itertools import cycle
from time import perf_counter_ns
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 50000),
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "path": "/items/42",
    "raw_path": b"/items/42",
    "query_string": b"",
    "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
}
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"2")],
}
BODY = {"type": "http.response.body", "body": b"ok"}

REQUEST = """
request = it(scope.copy(), receive, send)
try:
    request.send(None)
except StopIteration:
    pass
else:
    raise RuntimeError("the app waits for something: it cannot be driven without an event loop")
"""


REQUEST_DISTINCT = REQUEST.replace("scope.copy()", 'scope | {"path": next(paths)}')


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers every request with a start and one body message."""
    await send(START)
    await send(BODY)


def starlette() -> App:
    """The same answer from Starlette, with one route."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def item(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/items/{item_id}", item)])


class TimingWrapper:
    """The least that any timing middleware does: reads the clock at the start and at the last body message."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Times one request and keeps nothing."""
        begun_ns = perf_counter_ns()
        latency_ns = 0

        async def timed_send(message: Message) -> None:
            nonlocal latency_ns
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                latency_ns = perf_counter_ns() - begun_ns

        await self.app(scope, receive, timed_send)


async def receive() -> Message:
    """An empty request body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    """Drops the message."""


def request_names(app: App) -> dict[str, Any]:
    """The names that REQUEST uses, for this app."""
    paths = cycle([f"/items/{number}" for number in range(20_000)])
    return {"it": app, "scope": SCOPE, "receive": receive, "send": send, "paths": paths}
