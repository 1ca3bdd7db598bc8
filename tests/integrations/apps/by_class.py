"""Drives apps as a server would that otelslo knows nothing of, and prints what was counted, by route.

Argument: which. Run under `opentelemetry-instrument`.
"""

from __future__ import annotations

import gc
import json
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fastapi_app
import flask_app
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.testclient import TestClient

from otelslo import Engine, default


class Answering(FastAPI):
    """Overrides `__call__`, and answers some requests there."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/own":
            await PlainTextResponse("own")(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class Equal(FastAPI):
    """Is equal to all of its kind."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        return 1


@contextmanager
def visiting(app: Any) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def asgi(app: Any, *paths: str) -> None:
    with visiting(app) as client:
        for path in paths:
            client.get(path)


def wsgi(app: Any, *paths: str) -> None:
    client = app.test_client()
    for path in paths:
        client.get(path, buffered=True)


def hierarchy() -> None:
    """Subclasses: of OTel's making, of the service's, with a `__call__` of their own."""
    asgi(fastapi_app.app, "/ok", "/raise")
    asgi(fastapi_app.child, "/ok", "/items/1")
    asgi(fastapi_app.filled(Answering()), "/ok", "/own")
    asgi(fastapi_app.filled(Equal()), "/ok")
    asgi(fastapi_app.filled(Equal()), "/ok")


def mounted() -> None:
    """What is mounted in a counted app is counted there, once, under its whole template."""
    asgi(fastapi_app.mounting, "/inner/ok", "/inner/items/1", "/ok")


def by_hand() -> None:
    """An edge of ours around it already."""
    from otelslo.asgi import SLOMiddleware as Asgi

    asgi(Asgi(fastapi_app.app), "/ok", "/items/1")
    wsgi(flask_app.application, "/ok", "/boom")


def many() -> None:
    """Apps that come and go."""
    gone = []
    for _ in range(5):
        app = fastapi_app.filled(FastAPI())
        asgi(app, "/ok")
        gone.append(weakref.ref(app))
        del app
    gc.collect()
    print("left", sum(ref() is not None for ref in gone), file=sys.stderr)


def sockets() -> None:
    """A websocket, also one that a mounted app answers."""
    app, inner = fastapi_app.filled(FastAPI()), FastAPI()

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app.add_api_websocket_route("/talk", talk)
    inner.add_api_websocket_route("/talk", talk)
    app.mount("/inner", inner)
    with visiting(app) as client:
        for path in ("/talk", "/inner/talk"):
            with client.websocket_connect(path) as connection:
                connection.close()


def nothing() -> None:
    """Serves nothing, as a parent of workers does."""


def main(which: str) -> None:
    globals()[which]()
    engine: Engine | None = default.running() if default._engine else None
    found: dict[str, list[int]] = {}
    for objective in engine.objectives if engine is not None else ():
        if objective.slo.group_by:
            for group, row in objective.rows.items():
                counts = engine.ring.reader.counts(row)  # type: ignore[union-attr]
                found[str(group)] = [counts.good, counts.bad, counts.excluded]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
