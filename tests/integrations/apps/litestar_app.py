"""Litestar as a service writes it; nothing of otelslo."""

from __future__ import annotations

from litestar import Litestar, get
from litestar.exceptions import PermissionDeniedException
from litestar.response import Response


@get("/ok")
async def ok() -> str:
    return "ok"


@get("/items/{number:int}")
async def item(number: int) -> int:
    return number


@get("/boom")
async def boom() -> Response[str]:
    return Response("boom", status_code=500)


@get("/raise")
async def raises() -> None:
    raise RuntimeError("the app's own fault")


@get("/forbidden")
async def forbidden() -> None:
    raise PermissionDeniedException


app = Litestar([ok, item, boom, raises, forbidden])
