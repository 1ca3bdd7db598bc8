"""A WSGI server played by hand, as PEP 3333 has it: a test decides which sends fail and when the server stops."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

HEADERS = [("Content-Type", "text/plain")]


def environ_of(path: str = "/x", method: str = "GET", headers: Any = (), **more: Any) -> dict[str, Any]:
    """A new environ; `path` as text, which WSGI has as the Latin-1 of its bytes."""
    return {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path.encode().decode("latin-1"), "QUERY_STRING": "",
        "RAW_URI": quote(path), "SERVER_NAME": "test", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1", "HTTP_HOST": "test", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(), "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False,
    } | {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in dict(headers).items()} | more  # fmt: skip


@dataclass
class Answer:
    """What a client and the server have seen."""

    status: str | None = None
    headers: Any = None
    sent: list[Any] = field(default_factory=list)
    error: BaseException | None = None  # what came out of the app, or of the server's own sending
    length: int | None = None  # of the iterable, if it has one

    @property
    def code(self) -> int | None:
        return None if self.status is None else int(self.status[:3])

    @property
    def body(self) -> bytes:
        return b"".join(self.sent)


class Server:
    """One request.

    Args:
        send_fails: the sends, by number, that raise OSError.
        stop_after: how many chunks are taken before the body is closed; None: all.
        close: whether the body's `close` is called at all.
        interrupted: raised by the send of that number instead, such as SystemExit.
    """

    def __init__(
        self,
        send_fails: Any = (),
        stop_after: int | None = None,
        close: bool = True,
        interrupted: dict[int, BaseException] | None = None,
    ) -> None:
        self.answer = Answer()
        self._send_fails = frozenset(send_fails)
        self._stop_after = stop_after
        self._close = close
        self._interrupted = interrupted or {}
        self._sends = 0
        self._pending: tuple[str, Any] | None = None

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        if exc_info is not None:
            try:
                if self.answer.status is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._pending is not None:
            raise AssertionError("headers are set already")
        if not isinstance(status, str):
            raise AssertionError("a status is a text")
        self._pending = (status, headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Sends the headers before the first data."""
        if self._pending is None:
            raise AssertionError("write before start_response")
        if not isinstance(data, bytes):
            raise AssertionError("a chunk is bytes")
        if not data:
            return
        self._head()
        number, self._sends = self._sends, self._sends + 1
        if number in self._interrupted:
            raise self._interrupted[number]
        if number in self._send_fails:
            raise BrokenPipeError("the client is gone")
        self.answer.sent.append(data)

    def _head(self) -> None:
        if self._pending is None:
            raise AssertionError("no start_response")
        self.answer.status, self.answer.headers = self._pending

    def run(self, app: Any, environ: dict[str, Any] | None = None) -> Answer:
        """From begin to end; what is raised is kept."""
        try:
            self._run(app, environ_of() if environ is None else environ)
        except BaseException as e:
            self.answer.error = e
        return self.answer

    def _run(self, app: Any, environ: dict[str, Any]) -> None:
        body = app(environ, self.start_response)
        if hasattr(body, "__len__"):
            self.answer.length = len(body)
        try:
            for taken, chunk in enumerate(body):
                if taken == self._stop_after:
                    return
                self.write(chunk)
            self._head()
        finally:
            if self._close and hasattr(body, "close"):
                body.close()


def run(app: Any, environ: dict[str, Any] | None = None, **how: Any) -> Answer:
    """One request from begin to end."""
    return Server(**how).run(app, environ)
