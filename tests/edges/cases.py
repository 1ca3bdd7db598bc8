"""The matrix: what services do at their edges, each case with what it is worth by the outcome table.

`outcome` is for availability, `latency` for a latency objective of 200 ms; `source` names the failure that the case is
about (failure modes B1 to B15), "own" where it is one of ours, "told" where the app or the operator decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drive import CHUNK, DISCONNECT, LAST, REQUEST, START

from .asgi_play import Script
from .verdicts import MS
from .wsgi_play import WsgiScript

SLOW = ("tick", 300 * MS)
LONG = ("tick", 11_000 * MS)
READ = ("receive",)
SEND_LAST, SEND_CHUNK = ("send", LAST), ("send", CHUNK)
LEFT = (REQUEST, DISCONNECT)


@dataclass(frozen=True)
class Case:
    """One app and its server.

    Args:
        script: a `Script` or `WsgiScript`.
        latency: "" where it is the same as `outcome`.
        around: what is wrapped around the app, inside of the middleware that is looked at.
        arguments: of our middleware.
        twice: our middleware is there two times.
    """

    name: str
    source: str
    script: Any
    outcome: str
    latency: str = ""
    around: Callable[[Any], Any] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    twice: bool = False

    @property
    def edge(self) -> str:
        return "asgi" if isinstance(self.script, Script) else "wsgi"

    @property
    def worth(self) -> tuple[str, str]:
        """The outcomes of availability and latency."""
        return self.outcome, self.latency or self.outcome


def start(status: int) -> tuple[Any, ...]:
    return ("send", START | {"status": status})


def answers(status: int, *before: Any, **more: Any) -> Script:
    """An app that reads, does something, and answers."""
    return Script((READ, *before, start(status), SEND_LAST), **more)


def mounted(app: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount("/mnt", routes=[Mount("/inner", app=app)])])


def with_background(app: Any) -> Any:
    """A route of Starlette's whose response has a background task: the app itself."""
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> Any:
        return PlainTextResponse("x", background=BackgroundTask(app, {"type": "task"}, None, None))

    return Starlette(routes=[Route("/x", endpoint)])


def at_route(path: str) -> Callable[[Any], Any]:
    def around(app: Any) -> Any:
        from starlette.applications import Starlette
        from starlette.routing import Mount, Route

        class Endpoint:
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                await app(scope, receive, send)

        return Starlette(routes=[Route(path, Endpoint()), Mount("/", app=app)])

    return around


def fails(*before: Any, error: str = "RuntimeError", **more: Any) -> Script:
    return Script((*before, ("raise", error)), **more)


def path(text: str) -> tuple[tuple[str, Any], ...]:
    return (("path", text), ("raw_path", text.encode()))


METHOD_HEAD = (("method", "HEAD"),)
SHEDS = ("say", "shed")

HTTP: list[Case] = [
    Case("200", "own", answers(200), "good"),
    Case("200, slow", "own", answers(200, SLOW), "good", "bad slow"),
    Case(
        "first byte at once, last after 0.3 s",
        "B4",
        Script((start(200), SEND_CHUNK, SLOW, SEND_LAST)),
        "good",
        "bad slow",
    ),
    Case(
        "the same, measured to the first byte",
        "told",
        Script((start(200), SEND_CHUNK, SLOW, SEND_LAST)),
        "good",
        arguments={"first_byte": True},
    ),
    Case("a background task of 0.3 s", "B4", Script((SLOW,)), "good", around=with_background),
    Case("a background task fails", "B4", fails(error="KeyError"), "good", around=with_background),
    Case("work after the last body, by hand", "B4", Script((*answers(200).steps, SLOW)), "good"),
    Case("exception before the start", "B1", fails(READ), "bad exception"),
    Case("exception after the start", "B2", fails(READ, start(200)), "bad exception"),
    Case("exception in the body", "B2", fails(start(200), SEND_CHUNK), "bad exception"),
    Case("exception after a 404's start", "B2", fails(start(404), SEND_CHUNK), "bad exception"),
    Case("a group of exceptions", "B1", fails(READ, error="Group"), "bad exception"),
    Case("answer cut short", "own", Script((start(200), SEND_CHUNK)), "bad cut"),
    Case("no answer at all", "own", Script((READ,)), "bad no_response"),
    Case("103, then 200", "B14", Script((start(103), start(200), SEND_LAST)), "good"),
    Case("103, then 500", "B14", Script((start(103), start(500), SEND_LAST)), "bad 5xx"),
    Case("103, then nothing", "B14", Script((start(103),)), "bad no_response"),
    Case("HEAD", "B14", answers(200, changes=METHOD_HEAD), "good"),
    *[Case(f"{status}", "B14", answers(status), "good") for status in (204, 304)],
    *[Case(f"{status}", "own", answers(status), "excluded unauthorised") for status in (401, 403)],
    *[Case(f"{status}", "own", answers(status), "excluded client_error") for status in (404, 429)],
    *[Case(f"{status}", "own", answers(status), "bad 5xx") for status in (500, 503)],
    Case("503, shed by the app", "told", answers(503, SHEDS), "bad shed", "excluded shed"),
    Case("429, shed by the app", "told", answers(429, SHEDS), "bad shed", "excluded shed"),
    Case("200, called bad by the app", "told", answers(200, ("say", "bad", ("reason", "nonsense"))), "bad other"),
    Case("500, called good by the app", "told", answers(500, ("say", "good")), "good"),
    Case(
        "client leaves before the answer, app is told",
        "B3",
        Script((READ, READ), incoming=LEFT),
        "excluded client_cancel",
    ),
    Case(
        "client leaves after 0.3 s",
        "B3",
        Script((READ, SLOW, READ), incoming=LEFT),
        "excluded client_cancel",
        "bad abandoned",
    ),
    Case("client leaves after 11 s", "B3", Script((READ, LONG, READ), incoming=LEFT), "bad abandoned"),
    Case(
        "client leaves in the body, app is cancelled by its framework",
        "B3",
        fails(start(200), SEND_CHUNK, READ, READ, error="CancelledError", incoming=LEFT),
        "excluded client_cancel",
    ),
    Case(
        "client leaves in the body, send fails",
        "B3",
        Script((start(200), SEND_CHUNK, SEND_LAST), sends=((1, "ConnectionResetError"),)),
        "excluded client_cancel",
    ),
    Case("client leaves, app fails all the same", "B3", fails(READ, READ, incoming=LEFT), "bad exception"),
    Case("cancelled before the start", "B3", Script((READ, ("pause",)), at=((0, "cancel"),)), "bad server_cancel"),
    Case(
        "cancelled in the body",
        "B3",
        Script((start(200), SEND_CHUNK, ("pause",)), at=((0, "cancel"),)),
        "bad server_cancel",
    ),
    Case(
        "cancelled while it waits for a body",
        "B3",
        Script((READ, READ), at=((0, "cancel"),)),
        "bad server_cancel",
    ),
    Case("worker exits", "B3", Script((start(200), ("pause",)), at=((0, "exit"),)), "bad server_cancel"),
    Case("sends a file by its path", "own", Script((start(200), ("send", {"type": "http.response.pathsend"}))), "good"),
    Case(
        "trailers after the body",
        "own",
        Script((start(200), SEND_LAST, SLOW, ("send", {"type": "http.response.trailers", "headers": []}))),
        "good",
    ),
    Case("exception in a mounted app", "B10", fails(READ, changes=path("/mnt/inner/x")), "bad 5xx", around=mounted),
    Case(
        "404 in a mounted app",
        "B10",
        answers(404, changes=path("/mnt/inner/x")),
        "excluded client_error",
        around=mounted,
    ),
    Case(
        "health check, by its route",
        "told",
        answers(500, changes=path("/healthz")),
        "excluded health_check",
        around=at_route("/healthz"),
    ),
    Case(
        "a client that says it is a health check",
        "B15",
        answers(500, changes=(("headers", [(b"user-agent", b"kube-probe/1.30")]),)),
        "bad 5xx",
        around=at_route("/healthz"),
    ),
    Case("wrapped twice", "B8", answers(200), "good", twice=True),
    Case("a method that nobody knows", "own", answers(405, changes=(("method", "BREW"),)), "excluded client_error"),
    Case("a path that is none", "own", answers(400, changes=(("path", "/\udcff"),)), "excluded client_error"),
]


def socket(*steps: Any, **more: Any) -> Script:
    usual = {"type": "websocket.connect"}
    return Script((READ, *steps), kind="websocket", **({"incoming": (usual,)} | more))


ACCEPT = ("send", {"type": "websocket.accept"})
WS_LEFT = ({"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1001})


def closes(code: int) -> tuple[Any, ...]:
    return ("send", {"type": "websocket.close", "code": code})


def denies(status: int) -> tuple[Any, ...]:
    head = {"type": "websocket.http.response.start", "status": status, "headers": []}
    return (("send", head), ("send", {"type": "websocket.http.response.body", "body": b""}))


WEBSOCKETS: list[Case] = [
    Case("websocket accepted, closed by 1000", "B7", socket(ACCEPT, closes(1000)), "good"),
    Case("websocket closed by 1011", "B7", socket(ACCEPT, closes(1011)), "bad closed_by_error"),
    Case("websocket refused", "B7", socket(closes(1000)), "excluded unauthorised"),
    Case("websocket denied by 404", "B7", socket(*denies(404)), "excluded client_error"),
    Case("websocket denied by 500", "B7", socket(*denies(500)), "bad 5xx"),
    Case("websocket, exception", "B7", socket(ACCEPT, ("raise", "KeyError")), "bad exception"),
    Case("websocket, client closes", "B7", socket(ACCEPT, READ, incoming=WS_LEFT), "good"),
    Case("websocket, client leaves before", "B7", socket(READ, incoming=WS_LEFT), "excluded client_cancel"),
    Case(
        "websocket, cancelled by the server",
        "B7",
        socket(ACCEPT, ("pause",), at=((0, "cancel"),)),
        "bad server_cancel",
    ),
]


def line(status: int, *, exc_info: bool = False) -> tuple[Any, ...]:
    return ("start", f"{status} Words", [("Content-Type", "text/plain")], exc_info)


PART = ("yield", b"part")
KEY_ERROR = ("raise", "KeyError")


def listed(status: int, *before: Any, **more: Any) -> WsgiScript:
    return WsgiScript(call=(*before, line(status)), body=(PART,), **more)


def generated(*steps: Any, **more: Any) -> WsgiScript:
    """An app that is a generator: nothing of it runs before the server takes its first chunk."""
    return WsgiScript(form="generator", body=steps, **more)


def replaced(*before: Any) -> WsgiScript:
    """An app that answers its own exception by an error page."""
    return WsgiScript(call=(("try", (*before, KEY_ERROR), "Exception", (line(500, exc_info=True),)),), body=(PART,))


WSGI: list[Case] = [
    Case("list", "own", listed(200), "good"),
    Case("list, slow", "own", listed(200, SLOW), "good", "bad slow"),
    Case("generator that streams for 0.3 s", "B5", generated(line(200), PART, SLOW, PART), "good", "bad slow"),
    Case(
        "the same, measured to the first byte",
        "told",
        generated(line(200), PART, SLOW, PART),
        "good",
        arguments={"first_byte": True},
    ),
    Case("generator that starts late, 500", "B5", generated(SLOW, line(500), PART), "bad 5xx"),
    Case("generator that starts late, 404", "B5", generated(line(404), PART), "excluded client_error"),
    Case("exception before the start", "B1", WsgiScript(call=(KEY_ERROR,)), "bad exception"),
    Case("exception after the start", "B2", WsgiScript(call=(line(200), KEY_ERROR)), "bad exception"),
    Case("generator fails before its start", "B1", generated(KEY_ERROR), "bad exception"),
    Case("generator fails in the body", "B2", generated(line(200), PART, KEY_ERROR), "bad exception"),
    Case("error page in the place of a 200", "own", replaced(line(200)), "bad 5xx"),
    Case(
        "error page too late",
        "own",
        generated(("try", (line(200), PART, KEY_ERROR), "Exception", (line(500, exc_info=True),))),
        "bad exception",
    ),
    Case("never starts", "own", WsgiScript(), "bad no_response"),
    Case("generator that never starts", "own", generated(), "bad no_response"),
    Case(
        "server stops early: client left",
        "B3",
        generated(line(200), PART, PART, takes=1, stops="error"),
        "excluded client_cancel",
    ),
    Case(
        "client leaves after 11 s",
        "B3",
        generated(line(200), PART, LONG, PART, PART, takes=2, stops="error"),
        "bad abandoned",
    ),
    Case(
        "worker's time-out in the body",
        "B3",
        generated(line(200), PART, PART, takes=1, stops="exit"),
        "bad server_cancel",
    ),
    Case("server cannot send what it was given", "own", generated(line(200), PART, takes=1, stops="bug"), "bad cut"),
    Case("close() takes 0.3 s", "B4", listed(200, returns="closing", closes=(SLOW,)), "good"),
    Case("close() fails", "own", listed(200, returns="closing", closes=(KEY_ERROR,)), "good"),
    Case("write()", "own", WsgiScript(call=(line(200), ("write", b"x"))), "good"),
    Case(
        "write() fails: client left",
        "B3",
        WsgiScript(call=(line(200), ("write", b"x")), writes_fail=(0,)),
        "excluded client_cancel",
    ),
    Case("HEAD", "B14", listed(200, changes=(("REQUEST_METHOD", "HEAD"),)), "good"),
    *[Case(f"{s}", "B14", WsgiScript(call=(line(s),)), "good") for s in (204, 304)],
    *[Case(f"{s}", "own", listed(s), "excluded unauthorised") for s in (401, 403)],
    *[Case(f"{s}", "own", listed(s), "excluded client_error") for s in (404, 429)],
    *[Case(f"{s}", "own", listed(s), "bad 5xx") for s in (500, 503)],
    Case("503, shed by the app", "told", listed(503, SHEDS), "bad shed", "excluded shed"),
    Case("file wrapper, sent by the server", "own", listed(200, returns="file", sendfile=True), "good"),
    Case("an app that is a class", "own", WsgiScript(form="class", call=(line(500),), body=(PART,)), "bad 5xx"),
    Case("wrapped twice", "B8", listed(200), "good", twice=True),
]
CASES = HTTP + WEBSOCKETS + WSGI
