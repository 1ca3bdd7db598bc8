"""What an app may say of its request or connection, and what a websocket has seen of the protocol.

The app finds it as `scope["otelslo"]`. All state of a request lies there or in the call, never on the middleware.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from otelslo.event import Ending
from otelslo.stream import Pace
from otelslo.words import Words

if TYPE_CHECKING:
    from otelslo.genai.measures import Measure

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_NORMAL_CLOSURE = 1000
# How Starlette, uvicorn, websockets and anyio say that the other side has gone.
_CLIENT_LEFT = frozenset(
    {"BrokenResourceError", "ClientDisconnect", "ClientDisconnected", "ClosedResourceError", "ConnectionClosed"}
    | {"ConnectionClosedError", "ConnectionClosedOK", "EndOfStream", "WebSocketDisconnect"}
)
_LONGEST_CHAIN = 64
MOST_SIGNS = 16  # that its client has gone, of one request; an app may go on sending for long
_NO_RESPONSE = "No response returned."  # what Starlette's BaseHTTPMiddleware makes of an app whose client left


class Site:
    """Where requests of one kind, method and template end up: their track, and their plans by status."""

    __slots__ = ("kind", "measure", "method", "plans", "template", "track")

    def __init__(
        self,
        kind: str,
        method: str,
        template: str | None,
        track: int,
        plans: dict[Any, int],
        measure: Measure | None = None,
    ) -> None:
        self.kind = kind
        self.method = method
        self.template = template
        self.track = track
        self.plans = plans
        self.measure = measure  # counts its requests in the gen_ai metrics


class Exchange(Words):
    """What the app says of its request: `request.scope["otelslo"].bad("nonsense")`.

    What is said counts if it is said before the last body message is sent.
    """

    counted_by: tuple[object, ...] = ()  # the engines that count this request

    def keep(self, pace: Pace) -> None:
        """Let this be the pace of the response, by which it is then judged."""
        self.spoken, self.pace = True, pace


class Connection:
    """A websocket between server and app: passes messages on as they are, and knows how it ended.

    Args:
        ended: told once, at the close message, with the ending.
    """

    status = 0  # of a refusal, or the close code
    _accepted = False
    _gone: tuple[object, ...] = ()

    def __init__(self, receive: Receive, send: Send, ended: Callable[[Ending, int], None]) -> None:
        self._receive = receive
        self._send = send
        self._ended = ended

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as e:  # how a server says that the client is gone
            self._gone = (*self._gone[:MOST_SIGNS], e)
            raise
        try:
            self._sent(message)
        except Exception:
            return  # no message of the protocol, and the server took it

    def _sent(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepted = True
        elif kind == "websocket.close":
            self.status = (message.get("code") or _NORMAL_CLOSURE) if self._accepted else 403
            self._ended(*(self.returned() if self._gone else (Ending.COMPLETE, self.status)))
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.http.response.body" and self.status and not message.get("more_body"):
            self._ended(Ending.COMPLETE, self.status)

    async def receive(self) -> Message:
        message = await self._receive()
        try:
            if message["type"] == "websocket.disconnect":
                self._gone = self._gone or (message,)
        except Exception:
            pass  # no message of the protocol: the server's and the app's to know
        return message

    def returned(self) -> tuple[Ending, int]:
        """How it ended, now that the app is done and has not closed it."""
        if self._accepted:  # an app that returns without a word closes normally
            return Ending.COMPLETE, _NORMAL_CLOSURE
        if self._gone:
            return Ending.CLIENT_CANCEL, self.status
        return (Ending.CUT if self.status else Ending.NO_RESPONSE), self.status

    def failed(self, error: BaseException) -> tuple[Ending, int]:
        """How it ended, now that the app has raised and has not closed it."""
        ending = how_failed(self._gone, error)
        if ending is Ending.CLIENT_CANCEL and self._accepted:
            return Ending.COMPLETE, _NORMAL_CLOSURE  # closed by the client, by whatever code: its own decision
        return ending, self.status


def how_failed(gone: tuple[object, ...], error: BaseException) -> Ending:
    """How a request ended whose app has raised `error`.

    `gone`: all that has told the app that its client has gone, such as the server's OSErrors. A client that left hides
    no failure: only what follows from its going (such an OSError, a framework's word for it, a cancellation) is the
    client's; anything else is the app's own.
    """
    try:
        if gone and _follows(gone, error):
            return Ending.CLIENT_CANCEL
    except Exception:
        pass  # an exception may be any code
    return Ending.EXCEPTION if isinstance(error, Exception) else Ending.SERVER_CANCEL


def _follows(gone: tuple[object, ...], error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_follows(gone, one) for one in error.exceptions)
    if isinstance(error, asyncio.CancelledError | GeneratorExit) or type(error).__name__ in _CLIENT_LEFT:
        return True
    if isinstance(error, RuntimeError) and error.args == (_NO_RESPONSE,):
        return True
    seen: list[BaseException] = []  # a chain may be a ring: `raise e from e`
    follow: BaseException | None = error
    while follow is not None and len(seen) < _LONGEST_CHAIN and not any(follow is one for one in seen):
        if any(follow is one for one in gone):
            return True
        seen.append(follow)
        follow = follow.__context__ if follow.__cause__ is None else follow.__cause__
    return False


def is_clients(error: BaseException) -> bool:
    """Whether this is how servers say that the client is gone, of an error that is none of the app's."""
    return isinstance(error, OSError) or type(error).__name__ in _CLIENT_LEFT


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """A request header by its lower-case name."""
    headers = scope.get("headers")
    if isinstance(headers, list | tuple):  # a one-shot iterable is the app's to read
        for key, value in headers:
            if key == name:
                return bytes(value).decode("latin-1")
    return None


def trace_of(traceparent: str) -> int:
    """The trace id in the text of a W3C `traceparent` header, 0 if it is not well-formed."""
    parts = traceparent.split("-")
    if len(parts) < 4 or len(parts[1]) != 32:
        return 0
    try:
        return int(parts[1], 16)
    except ValueError:
        return 0
