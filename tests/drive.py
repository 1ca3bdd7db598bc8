"""A server played by hand: ASGI apps are stepped without an event loop, so that a test decides what happens when."""

from __future__ import annotations

import types
from collections import Counter
from typing import Any

from otelslo import Engine
from otelslo.definition import FIRST_EXCLUDED

START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"."}
CHUNK = {"type": "http.response.body", "body": b".", "more_body": True}
REQUEST = {"type": "http.request", "body": b"", "more_body": False}
DISCONNECT = {"type": "http.disconnect"}


@types.coroutine
def pause():
    """Wait until the test steps on."""
    yield


def advance(engine: Engine, *, s: float = 0, ns: int = 0) -> None:
    """Turn the engine's manual clock, for its kernels too."""
    engine.clock.advance(s=s, ns=ns)
    engine.ring.blocks.advance_manual_clock()


def http_scope(path: str = "/x", method: str = "GET", headers: Any = (), **more: Any) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
        "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(key.encode(), value.encode()) for key, value in dict(headers).items()],
        "client": ("192.0.2.1", 1), "server": ("192.0.2.2", 80),
    } | more  # fmt: skip


def websocket_scope(path: str = "/ws", **more: Any) -> dict[str, Any]:
    return http_scope(path) | {"type": "websocket", "scheme": "ws", "subprotocols": []} | more


class Request:
    """One call of an app, stepped by the test.

    Args:
        incoming: what `receive` gives, one by one; then it waits for good. An exception is raised instead.
        send_fails: the sends, by number, that raise OSError.
    """

    def __init__(self, app: Any, scope: dict[str, Any], incoming: Any = (REQUEST,), send_fails: Any = ()) -> None:
        self.scope = scope
        self.incoming = list(incoming)
        self.sent: list[Any] = []
        self.error: BaseException | None = None
        self.done = False
        self._sends = 0
        self._send_fails = frozenset(send_fails)
        self._running = app(scope, self._receive, self._send)

    async def _receive(self) -> Any:
        while not self.incoming:
            await pause()
        message = self.incoming.pop(0)
        if isinstance(message, BaseException):
            raise message
        return message

    async def _send(self, message: Any) -> None:
        self._sends += 1
        if self._sends - 1 in self._send_fails:
            raise OSError("the client is gone")
        self.sent.append(message)

    def step(self, error: BaseException | None = None) -> bool:
        """Go on to the next pause, with an exception raised at the current one; whether the app is done."""
        if self.done:
            return True
        try:
            if error is None:
                self._running.send(None)
            else:
                self._running.throw(error)
        except StopIteration:
            self.done = True
        except BaseException as e:
            self.done, self.error = True, e
        return self.done

    def finish(self) -> Request:
        """Step until the app is done; an app that waits for good is left waiting."""
        for _ in range(1000):
            if self.step():
                break
        return self


def run(app: Any, scope: dict[str, Any] | None = None, incoming: Any = (REQUEST,), send_fails: Any = ()) -> Request:
    """One request from begin to end."""
    return Request(app, http_scope() if scope is None else scope, incoming, send_fails).finish()


async def serve(app: Any, scope: dict[str, Any], incoming: Any = (REQUEST, DISCONNECT)) -> list[Any]:
    """One request in a running event loop; what was sent. Exceptions pass."""
    sent: list[Any] = []
    left = list(incoming)

    async def receive() -> Any:
        return left.pop(0) if len(left) > 1 else left[0]

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def cells(engine: Engine, slo: str, group: str | None = None) -> dict[str, int]:
    """What an objective has counted, such as {"good": 3, "bad 5xx": 1}; one group of it, or all together."""
    objective = next(o for o in engine.objectives if o.slo.name == slo)
    found: Counter[str] = Counter()
    for name, row in objective.rows.items():
        if group not in (None, name):
            continue
        for cell, count in enumerate(engine.ring.reader.cells(row)):
            reason = objective.slo.reason_cells[cell]
            key = "good" if cell == 0 else f"bad {reason}" if cell < FIRST_EXCLUDED else f"excluded {reason}"
            found[key] += count
    return {key: count for key, count in found.items() if count}


def groups(engine: Engine, slo: str) -> dict[str | None, dict[str, int]]:
    """`cells` of every group that counted something."""
    objective = next(o for o in engine.objectives if o.slo.name == slo)
    found = {name: cells(engine, slo, name) for name in objective.rows}
    return {name: counts for name, counts in found.items() if counts}


def names(engine: Engine) -> list[str]:
    """All texts in the ring: keys of rows and histograms, and strings."""
    reader = engine.ring.reader
    texts = [reader.row_key(row) for row in range(reader.rows)]
    texts += [reader.histogram_key(histogram) for histogram in range(reader.histograms)]
    engine.ring.directory._scan_strings()
    return texts + list(engine.ring.directory._strings)
