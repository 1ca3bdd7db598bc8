"""An endpoint for labels from elsewhere: an ASGI app to mount, that leaves them in the inbox and answers 202.

    app.mount("/labels", otelslo.labels_app(token="env:LABELS_TOKEN"))

POST to /labels/fraud a JSON object {"id": ..., "truth": ..., "at": ...}, a list of them, or JSON lines; to /labels
itself with "model" in each. Good ones are taken, bad ones are named.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from otelslo import default
from otelslo.engine import Engine
from otelslo.errors import BadValue, Place
from otelslo.label_lines import BadLine, from_json_text
from otelslo.secret import Secret, secret

MOST_BYTES = 1 << 20
_MOST_NAMED = 20
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class _Refused(Exception):
    """An answer that is not 202."""

    def __init__(self, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


def labels_app(token: str | None, *, engine: Engine | None = None, most_bytes: int = MOST_BYTES) -> LabelsApp:
    """The ASGI app. It answers 202 {"taken", "bad", "errors"}; 422 if not a single one was good; 400, 401, 405, 413;
    503 if they could not be written now.

    Args:
        token: where the bearer token stands, "env:NAME" or "file:/path", read for each request; None only where
            something in front asks who it is.
        engine: by default the process's own.
        most_bytes: of a body.

    Raises:
        DefinitionError: the token itself is given, or what is no place for one.
    """
    return LabelsApp(None if token is None else secret(token, Place("labels_app").at("token")), engine, most_bytes)


class LabelsApp:
    """Made by `labels_app`."""

    def __init__(self, token: Secret | None, engine: Engine | None, most_bytes: int) -> None:
        self._token = token
        self._engine = engine
        self._most_bytes = most_bytes

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        headers: tuple[tuple[bytes, bytes], ...] = ()
        try:
            status, told = await self._answer(scope, receive)
        except _Refused as refused:
            status, told, headers = refused.status, {"error": refused.error}, refused.headers
        except ConnectionResetError:
            return
        body = json.dumps(told).encode()
        fixed = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: _Message, receive: _Receive) -> tuple[int, dict[str, Any]]:
        from starlette.concurrency import run_in_threadpool  # under asyncio and under trio

        if scope["method"] != "POST":
            raise _Refused(405, "labels are posted", (b"allow", b"POST"))
        headers = dict(scope["headers"])
        self._authorise(headers.get(b"authorization", b""))
        body = await self._body(headers, receive)
        return await run_in_threadpool(self._take, body, _model(scope))

    def _authorise(self, given: bytes) -> None:
        if self._token is None:
            return
        try:
            wanted = self._token.read().encode()
        except BadValue as e:
            raise _Refused(503, f"the token of this endpoint cannot be read: {e}") from e
        scheme, _, told = given.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(told.strip(), wanted):
            raise _Refused(401, "a bearer token is needed, and this is not it", (b"www-authenticate", b"Bearer"))

    async def _body(self, headers: dict[bytes, bytes], receive: _Receive) -> str:
        too_large = _Refused(413, f"a body has at most {self._most_bytes:,} bytes. Post several")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._most_bytes:
            raise too_large
        parts, size = list[bytes](), 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most_bytes:
                raise too_large
            if not message.get("more_body", False):
                break
        try:
            text = b"".join(parts).decode()
        except UnicodeDecodeError as e:
            raise _Refused(400, f"the body is no UTF-8: {e.reason} at byte {e.start}") from e
        if not text.strip():
            raise _Refused(400, 'the body is empty. Post {"id": "...", "truth": ...}')
        return text

    def _take(self, text: str, model: str | None) -> tuple[int, dict[str, Any]]:
        own = self._engine or default.for_labels()
        if own is None:
            raise _Refused(503, "otelslo is off in this process")
        taken, lost, bad = 0, 0, list[BadLine]()
        for one in from_json_text(text, model, own.clock.wall_ns()):
            if isinstance(one, BadLine):
                bad.append(one)
            elif own.labels.put(one):
                taken += 1
            else:
                lost += 1
        errors = [{"line": one.line, "error": one.text} for one in bad[:_MOST_NAMED]]
        told = {"taken": taken, "bad": len(bad), "errors": errors}
        if lost:
            return 503, told | {"error": f"{lost} could not be written now. Post all of it again later"}
        return (202 if taken or not bad else 422), told


def _model(scope: _Message) -> str | None:
    """What the path has after the place where the app is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    rest = path.removeprefix(root) if root else path
    return rest.strip("/") or None
