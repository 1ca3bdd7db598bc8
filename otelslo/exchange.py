"""One request or connection in flight: what passed between server and app, and what the app says of it.

All state of a request lies here, never on the middleware. The app finds it as `scope["otelslo"]`; names that begin with
an underscore are the edge's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from otelslo.event import Ending

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_NORMAL_CLOSURE = 1000
_BODIES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class Site:
    """Where requests of one kind, method and template end up: their track, and their plans by status."""

    __slots__ = ("kind", "method", "plans", "template", "track")

    def __init__(self, kind: str, method: str, template: str | None, track: int, plans: dict[int, int]) -> None:
        self.kind = kind
        self.method = method
        self.template = template
        self.track = track
        self.plans = plans


NOWHERE = Site("", "", None, 0, {})


@dataclass(slots=True)
class Said:
    """What the app said of its request."""

    verdict: tuple[str, str] | None = None
    shed: bool = False
    attributes: dict[str, str] = field(default_factory=dict)


class Edge(Protocol):
    """What an exchange tells that it has ended."""

    def end(self, exchange: Exchange, ending: Ending, exception: BaseException | None = None) -> None: ...


class Exchange:
    """One request in the middleware, and what the app may say of it: `request.scope["otelslo"].bad("nonsense")`.

    What is said counts if it is said before the last body message.
    """

    __slots__ = ("_edge", "_gone", "_open", "_receive", "_said", "_scope", "_send", "_site", "_status", "_token")

    def __init__(self, edge: Edge, site: Site, token: int, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._site = site
        self._token = token
        self._scope = scope
        self._receive = receive
        self._send = send
        self._open = token != 0
        self._status = 0
        self._gone = False
        self._said: Said | None = None

    # ── for the app ────────────────────────────────────────────────────────────────────────────────────────────────
    def good(self) -> None:
        """This request was good, whatever its status."""
        self._saying().verdict = ("good", "good")

    def bad(self, reason: str) -> None:
        """This request was bad, whatever its status."""
        self._saying().verdict = ("bad", str(reason))

    def exclude(self, reason: str) -> None:
        """This request does not count."""
        self._saying().verdict = ("excluded", str(reason))

    def shed(self) -> None:
        """The 429 or 503 of this request is our own shedding of load."""
        self._saying().shed = True

    def set(self, **attributes: str) -> None:
        """Attributes to group by, such as version="2026-11-01"."""
        self._saying().attributes.update({key: str(value) for key, value in attributes.items()})

    def _saying(self) -> Said:
        if self._said is None:
            self._said = Said()
        return self._said

    # ── the protocol: nothing here changes, drops or refuses a message ─────────────────────────────────────────────
    def send(self, message: Message) -> Awaitable[None]:
        last = False
        try:
            kind = message["type"]
            if kind == "http.response.body":
                last = self._open and not message.get("more_body")
            elif kind == "http.response.start":
                status = message["status"]
                if status >= 200 or status == 101:  # others are interim
                    self._status = status
            elif kind in _BODIES:
                last = self._open and not message.get("more_body")
        except Exception:
            last = False  # no message of the protocol: the server says so
        return self._last(message) if last else self._watched(message)

    async def _last(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self._gone = True
            raise
        if self._open:
            self._edge.end(self, self._returned() if self._gone else Ending.COMPLETE)

    async def _watched(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # how a server says that the client is gone
            self._gone = True
            raise

    async def receive(self) -> Message:
        message = await self._receive()
        if message.get("type") == "http.disconnect":
            self._gone = True
        return message

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _returned(self) -> Ending:
        """How it ended, now that the app is done without a last body."""
        if self._gone:
            return Ending.CLIENT_CANCEL
        return Ending.CUT if self._status else Ending.NO_RESPONSE

    def _failed(self, error: BaseException) -> Ending:
        """How it ended, now that the app has raised.

        Only a client of whose going the app was told can be the cause; one that left unseen hides no failure.
        """
        if self._gone:
            return Ending.CLIENT_CANCEL
        return Ending.EXCEPTION if isinstance(error, Exception) else Ending.SERVER_CANCEL


class WebsocketExchange(Exchange):
    """One websocket connection; its status is the refusal's, or the close code."""

    __slots__ = ("_accepted",)

    def __init__(self, edge: Edge, site: Site, token: int, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(edge, site, token, scope, receive, send)
        self._accepted = False

    def send(self, message: Message) -> Awaitable[None]:
        last = False
        try:
            kind = message["type"]
            if kind == "websocket.accept":
                self._accepted = True
            elif kind == "websocket.close":
                self._status = (message.get("code") or _NORMAL_CLOSURE) if self._accepted else 403
                last = self._open
            elif kind == "websocket.http.response.start":
                self._status = message["status"]
            elif kind == "websocket.http.response.body":
                last = self._open and not message.get("more_body")
        except Exception:
            last = False
        return self._last(message) if last else self._watched(message)

    async def receive(self) -> Message:
        message = await self._receive()
        if message.get("type") == "websocket.disconnect":
            self._gone = True
        return message

    def _returned(self) -> Ending:
        if self._accepted:  # an app that returns without a word closes normally
            self._status = _NORMAL_CLOSURE
            return Ending.COMPLETE
        if self._gone:
            return Ending.CLIENT_CANCEL
        return Ending.CUT if self._status else Ending.NO_RESPONSE

    def _failed(self, error: BaseException) -> Ending:
        if self._gone and self._accepted:
            # Closed by the client, by whatever code: its own decision, and how frameworks say so is to raise.
            self._status = _NORMAL_CLOSURE
            return Ending.COMPLETE
        return super()._failed(error)
