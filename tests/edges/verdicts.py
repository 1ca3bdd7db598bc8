"""The outcome table as a person reads it: what a conversation between server and app was worth.

Written from the table alone and from what passed between the two; nothing here knows how the edges do it. A history
is a list of `(what, now_ns, thing)`:
    sent (a message that the server took), send failed (the error), received (a message), said (word, arguments),
    left (the app's exception), returned; and over, for what never was a call of the app (the error, or None).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MS = 1_000_000
THRESHOLD_NS = 200 * MS
CANCEL_AFTER_NS = 10_000 * MS
CLOSED_BY_ERROR = (1011, 1012, 1013, 1014)
# How frameworks tell an app that the other side has gone.
FAREWELLS = ("ClientDisconnect", "WebSocketDisconnect")

History = Iterable[tuple[str, int, Any]]


@dataclass
class Seen:
    """A finished request; `ending` is complete, exception, cut, no_response, server_cancel or client."""

    ending: str = "no_response"
    status: int | None = None
    waited_ns: int = 0
    verdict: str | None = None
    shed: bool = False

    def hear(self, word: str) -> None:
        """What the app says of itself; of several words the last counts."""
        if word == "shed":
            self.shed = True
        elif word != "set":
            self.verdict = word

    def end(self, ending: str, now_ns: int, told_gone: bool = False) -> Seen:
        self.ending, self.waited_ns = "client" if told_gone else ending, now_ns
        return self


def answered(status: int) -> str:
    """A status of 200 and more, or 101."""
    if status in (401, 403):
        return "excluded unauthorised"
    if 400 <= status <= 499:
        return "excluded client_error"
    return "good" if 100 <= status <= 399 else "bad 5xx"


def _verdict(seen: Seen) -> str | None:
    return {None: None, "good": "good", "bad": "bad other", "exclude": "excluded other"}[seen.verdict]


def _is_shed(seen: Seen) -> bool:
    return seen.shed and seen.ending == "complete" and seen.status in (429, 503)


def availability(seen: Seen) -> str:
    """The table's first column, such as "bad 5xx"."""
    if told := _verdict(seen):
        return told
    if _is_shed(seen):
        return "bad shed"
    if seen.ending == "client":
        return "bad abandoned" if seen.waited_ns > CANCEL_AFTER_NS else "excluded client_cancel"
    if seen.ending != "complete":
        return f"bad {seen.ending}"
    return "good" if seen.status is None else answered(seen.status)


def latency(seen: Seen) -> str:
    """The second column, with a threshold of 200 ms."""
    slow = seen.waited_ns > THRESHOLD_NS
    if _is_shed(seen) and seen.verdict is None:
        return "excluded shed"
    if seen.ending == "client" and seen.verdict is None:
        return "bad abandoned" if slow else "excluded client_cancel"
    outcome = availability(seen)
    return "bad slow" if outcome == "good" and slow else outcome


def is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else None


def because_gone(error: BaseException, failures: list[BaseException]) -> bool:
    """Whether what the app raised only says that its client had gone, of which it had been told."""
    if isinstance(error, BaseExceptionGroup):
        return all(because_gone(one, failures) for one in error.exceptions)
    if isinstance(error, asyncio.CancelledError | GeneratorExit) or type(error).__name__ in FAREWELLS:
        return True
    chain: list[BaseException] = []
    follow: BaseException | None = error
    while follow is not None and not any(follow is one for one in chain):
        chain.append(follow)
        follow = follow.__cause__ if follow.__cause__ is not None else follow.__context__
    return any(one is failure for one in chain for failure in failures)


def how_left(error: BaseException, told: bool, failures: list[BaseException]) -> str:
    """The ending of a request whose app raised this before it was done."""
    if (told or failures) and because_gone(error, failures):
        return "client"
    return "exception" if isinstance(error, Exception) else "server_cancel"


def http(history: History, first_byte: bool = False) -> Seen:
    """A request over ASGI: done with its last body message, or else with its app.

    Two readings of the table: how long a client had waited that left is asked when the request is done, not when the
    app was told; and a body that was never begun by a start is no answer.
    """
    seen, told, first = Seen(), False, None
    failures: list[BaseException] = []
    for what, now_ns, thing in history:
        kind = _field(thing, "type")
        if what == "said":
            seen.hear(thing)
        elif what == "received" and kind == "http.disconnect":
            told = True
        elif what == "send failed" and isinstance(thing, OSError):
            failures.append(thing)
        elif what == "sent" and kind == "http.response.start":
            status = _field(thing, "status")
            seen.status = status if is_number(status) and (status >= 200 or status == 101) else seen.status
        elif what == "sent" and is_body(kind) and seen.status is not None:
            first = now_ns if first is None else first
            if not _field(thing, "more_body"):
                done_ns = first if first_byte else now_ns
                return seen.end("complete", done_ns, told or bool(failures))
        elif what in ("left", "over") and thing is not None:
            return seen.end(how_left(thing, told, failures), now_ns)
        elif what in ("returned", "over"):
            return seen.end("no_response" if seen.status is None else "cut", now_ns, told or bool(failures))
    raise AssertionError("the app has not ended")


def is_body(kind: Any) -> bool:
    return kind in ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")


def websocket(history: History) -> str:
    """The outcome of a connection: good once accepted, unless the server's side breaks it off."""
    seen = Seen()
    outcome = _connection(history, seen)
    if told := _verdict(seen):
        return told
    return "bad shed" if seen.shed and seen.status in (429, 503) and seen.ending == "complete" else outcome


def _connection(history: History, seen: Seen) -> str:
    accepted = told = False
    refusal: int | None = None
    failures: list[BaseException] = []
    for what, _, thing in history:
        kind = _field(thing, "type")
        gone = told or bool(failures)
        if what == "said":
            seen.hear(thing)
        elif what == "received" and kind == "websocket.disconnect":
            told = True
        elif what == "send failed" and isinstance(thing, OSError):
            failures.append(thing)
        elif what == "sent" and kind == "websocket.accept":
            accepted = True
        elif what == "sent" and kind == "websocket.http.response.start":
            refusal = thing["status"]
        elif what == "sent" and kind == "websocket.close":
            if gone:
                return "good" if accepted else "excluded client_cancel"
            by_error = accepted and thing.get("code") in CLOSED_BY_ERROR
            return "bad closed_by_error" if by_error else "good" if accepted else "excluded unauthorised"
        elif what == "sent" and kind == "websocket.http.response.body" and not thing.get("more_body"):
            if refusal is not None:
                seen.status, seen.ending = refusal, "complete"
                return answered(refusal)
        elif what in ("left", "over") and thing is not None:
            ending = how_left(thing, told, failures)
            return f"bad {ending}" if ending != "client" else "good" if accepted else "excluded client_cancel"
        elif what in ("returned", "over"):
            if accepted or gone:
                return "good" if accepted else "excluded client_cancel"
            return "bad no_response" if refusal is None else "bad cut"
    raise AssertionError("the app has not ended")


def wsgi(history: History, method: str = "GET", first_byte: bool = False) -> Seen:
    """A request over WSGI: done when the server has taken the whole body, or else when it takes no more.

    What the server does is in the history too: started (the status line), write failed, wrote, chunk, file, exhausted,
    enough (it takes no more), stopped (its error, or None). Readings of the table: what `close()` does after the whole
    body is not the user's wait; a client that leaves hides no 5xx; where there is no body (HEAD, 204, 304) there is
    none to leave; of a file that the server may send in its own way all was sent, unless an error tells otherwise.
    """
    seen, first, whole = Seen(), None, False
    failures: list[BaseException] = []
    line, enough = "", False
    for what, now_ns, thing in history:
        if what == "said":
            seen.hear(thing)
        elif what == "started":
            line = thing
            seen.status = int(line.split(" ")[0])
        elif what == "write failed":
            failures.append(thing)
        elif what in ("wrote", "chunk") and thing:
            first = now_ns if first is None else first
        elif what == "file":
            whole = True
        elif what == "enough":
            enough = True
        elif what == "left" and not enough:
            return seen.end(how_left(thing, bool(failures), failures), now_ns)
        elif what == "exhausted" and not whole:
            done_ns = first if first_byte and first is not None else now_ns
            return seen.end("complete" if line else "no_response", done_ns, bool(failures))
        elif what == "stopped":
            return seen.end(_how_stopped(seen, thing, method, whole, bool(failures)), now_ns)
        elif what == "over" and thing is not None:
            return seen.end(how_left(thing, bool(failures), failures), now_ns)
    raise AssertionError("the request has not ended")


def _how_stopped(seen: Seen, error: BaseException | None, method: str, whole: bool, failed: bool) -> str:
    """How a request ended whose body the server has not taken to its end."""
    if error is not None and not isinstance(error, Exception | GeneratorExit):
        return "server_cancel"
    if seen.status is None:
        return "no_response"
    if error is not None and not isinstance(error, OSError):
        return "cut"
    if 500 <= seen.status <= 599 or method == "HEAD" or seen.status in (204, 304):
        return "complete"
    return "complete" if whole and error is None and not failed else "client"
