"""What an app may say of its request or connection, and what a websocket has seen of the protocol.

The app finds it as `scope["otelslo"]`. All state of a request lies there or in the call, never on the middleware.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from otelslo.event import Ending

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_NORMAL_CLOSURE = 1000


class Site:
    """Where requests of one kind, method and template end up: their track, and their plans by status."""

    __slots__ = ("kind", "method", "plans", "template", "track")

    def __init__(self, kind: str, method: str, template: str | None, track: int, plans: dict[int, int]) -> None:
        self.kind = kind
        self.method = method
        self.template = template
        self.track = track
        self.plans = plans


class Exchange:
    """What the app says of its request: `request.scope["otelslo"].bad("nonsense")`.

    What is said counts if it is said before the last body message is sent.
    """

    # Attributes of the class until the app says something: making an exchange is then one allocation.
    spoken = False
    verdict: tuple[str, str] | None = None
    is_shed = False
    attributes: dict[str, str] | None = None

    def good(self) -> None:
        """This request was good, whatever its status."""
        self.spoken, self.verdict = True, ("good", "good")

    def bad(self, reason: str) -> None:
        """This request was bad, whatever its status."""
        self.spoken, self.verdict = True, ("bad", str(reason))

    def exclude(self, reason: str) -> None:
        """This request does not count."""
        self.spoken, self.verdict = True, ("excluded", str(reason))

    def shed(self) -> None:
        """The 429 or 503 of this request is our own shedding of load."""
        self.spoken, self.is_shed = True, True

    def set(self, **attributes: str) -> None:
        """Attributes to group by, such as version="2026-11-01"."""
        told = {key: str(value) for key, value in attributes.items()}
        self.spoken, self.attributes = True, {**(self.attributes or {}), **told}


class Connection:
    """A websocket between server and app: passes messages on as they are, and knows how it ended.

    Args:
        ended: told once, at the close message, with the ending.
    """

    status = 0  # of a refusal, or the close code
    _accepted = False
    _gone = False

    def __init__(self, receive: Receive, send: Send, ended: Callable[[Ending, int], None]) -> None:
        self._receive = receive
        self._send = send
        self._ended = ended

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # how a server says that the client is gone
            self._gone = True
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
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            self._ended(Ending.COMPLETE, self.status)

    async def receive(self) -> Message:
        message = await self._receive()
        if message.get("type") == "websocket.disconnect":
            self._gone = True
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
        if self._gone and self._accepted:
            # Closed by the client, by whatever code: its own decision, and how frameworks say so is to raise.
            return Ending.COMPLETE, _NORMAL_CLOSURE
        return how_failed(self._gone, error), self.status


def how_failed(gone: bool, error: BaseException) -> Ending:
    """How a request ended whose app has raised.

    Only a client of whose going the app was told can be the cause; one that left unseen hides no failure.
    """
    if gone:
        return Ending.CLIENT_CANCEL
    return Ending.EXCEPTION if isinstance(error, Exception) else Ending.SERVER_CANCEL


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """A request header by its lower-case name."""
    headers = scope.get("headers")
    if isinstance(headers, list | tuple):  # a one-shot iterable is the app's to read
        for key, value in headers:
            if key == name:
                return bytes(value).decode("latin-1")
    return None


def trace_id(scope: Scope) -> int:
    """The trace id of a W3C `traceparent` header, 0 if there is none that is well-formed."""
    parts = (header(scope, b"traceparent") or "").split("-")
    if len(parts) < 4 or len(parts[1]) != 32:
        return 0
    try:
        return int(parts[1], 16)
    except ValueError:
        return 0
