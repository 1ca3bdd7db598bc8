"""Starlette, and a plain ASGI callable; nothing of otelslo."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

_STATUSES = {"/boom": 500, "/raise": 500, "/forbidden": 403, "/missing": 404}


async def ok(request: Request) -> Response:
    return PlainTextResponse("ok")


async def boom(request: Request) -> Response:
    return PlainTextResponse("boom", 500)


async def raises(request: Request) -> Response:
    raise RuntimeError("the app's own fault")


async def forbidden(request: Request) -> Response:
    raise HTTPException(403)


app = Starlette(
    routes=[
        Route("/ok", ok),
        Route("/items/{number}", ok),
        Route("/boom", boom),
        Route("/raise", raises),
        Route("/forbidden", forbidden),
    ]
)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Answers lifespan with an error, as many do."""
    assert scope["type"] == "http"
    status = _STATUSES.get(scope["path"], 200)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"said"})
