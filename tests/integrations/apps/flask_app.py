"""Flask as a service writes it: nothing of otelslo, unless BY_HAND is set. `bare` is plain WSGI."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from flask import Flask, abort

application = Flask(__name__)

if os.environ.get("BY_HAND"):
    from otelslo.wsgi import SLOMiddleware

    application.wsgi_app = SLOMiddleware(application.wsgi_app)  # type: ignore[method-assign]


@application.get("/ok")
def ok() -> str:
    return "ok"


@application.get("/items/<int:number>")
def item(number: int) -> str:
    return str(number)


@application.get("/boom")
def boom() -> Any:
    return "boom", 500


@application.get("/raise")
def raises() -> str:
    raise RuntimeError("the app's own fault")


@application.get("/forbidden")
def forbidden() -> None:
    abort(403)


def bare(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    statuses = {"/boom": "500 Boom", "/raise": "500 Boom", "/forbidden": "403 No", "/missing": "404 No"}
    start_response(statuses.get(environ["PATH_INFO"], "200 OK"), [("content-type", "text/plain")])
    return [b"said"]
