"""FastAPI as a service writes it: nothing of otelslo, unless BY_HAND is set. `child` is a subclass, `outside` has a
middleware around it that answers by itself, `mounting` has a WSGI app and another FastAPI below it."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from flask_app import application as wsgi_application
from starlette.middleware.wsgi import WSGIMiddleware


class Child(FastAPI):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)


def filled(app: FastAPI) -> FastAPI:
    if os.environ.get("BY_HAND"):
        from otelslo.asgi import SLOMiddleware

        app.add_middleware(SLOMiddleware)

    @app.get("/ok")
    async def ok() -> str:
        return "ok"

    @app.get("/items/{number}")
    def item(number: int) -> int:
        return number

    @app.get("/boom")
    async def boom() -> Any:
        return PlainTextResponse("boom", 500)

    @app.get("/raise")
    async def raises() -> None:
        raise RuntimeError("the app's own fault")

    @app.get("/forbidden")
    async def forbidden() -> None:
        raise HTTPException(403)

    return app


class Refusing:
    """Answers /forbidden before FastAPI hears of it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/forbidden":
            await PlainTextResponse("no", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


app = filled(FastAPI())
child = filled(Child())
outside = Refusing(filled(FastAPI()))
mounting = filled(FastAPI())
mounting.mount("/wsgi", WSGIMiddleware(wsgi_application))  # type: ignore[arg-type, unused-ignore]
mounting.mount("/inner", filled(FastAPI()))
