"""Apps for test_gunicorn.py: what they are called with is in the path, and everything else in the environment."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import otelslo.default
from otelslo.wsgi import SLOMiddleware

ROUTES = ["/ok", "/items/{id}", "/boom", "/raise", "/forbidden", "/stream", "/hang", "/stuck", "/compiled"]

if os.environ.get("MASTER_STARTS"):  # as an app does that tracks a call while it is imported
    otelslo.default.engine().start()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise RuntimeError("the app's own fault")
    if path in ("/hang", "/stuck"):
        if path == "/stuck":
            signal.signal(signal.SIGABRT, signal.SIG_IGN)
        threading.Event().wait()
    status = {"/boom": "500 No", "/forbidden": "403 No", "/missing": "404 No"}.get(path, "200 OK")
    start_response(status, [("Content-Type", "text/plain")])
    return (b"." for _ in range(3)) if path == "/stream" else [b"..."]


class Compiled:
    """Outside of the middleware: answers /compiled by whether there is nothing left to compile for it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        module = sys.modules.get("otelslo.kernels.ring")
        if environ["PATH_INFO"] != "/compiled":
            return self.app(environ, start_response)  # type: ignore[no-any-return]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"yes" if module is not None and module._compiled else b"no"]


application = Compiled(SLOMiddleware(app, routes=ROUTES))


def asgi_application() -> Any:
    """The same by Starlette, for uvicorn's workers."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    from otelslo.asgi import SLOMiddleware

    async def answer(request: Request) -> Response:
        path = request.url.path
        if path == "/raise":
            raise RuntimeError("the app's own fault")
        return PlainTextResponse("...", {"/boom": 500, "/forbidden": 403}.get(path, 200))

    paths = ("/ok", "/items/{id}", "/boom", "/raise", "/forbidden", "/stream")
    starlette = Starlette(routes=[Route(path, answer) for path in paths])
    starlette.add_middleware(SLOMiddleware)
    return starlette
