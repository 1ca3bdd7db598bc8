"""The ASGI edge: speaks the protocol, times what passes, and stays out of the way.

    from otelslo.asgi import SLOMiddleware
    app.add_middleware(SLOMiddleware)          # Starlette, FastAPI: last added is outermost
    app = SLOMiddleware(app, slos)             # anything else

A request ends with its last body message: background tasks are not the user's wait. What the app raises passes through
untouched; what we get wrong is counted, logged once, and never reaches a request. State of a request lives in its
`Exchange`, which the app finds as `scope["otelslo"]`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from otelslo import default
from otelslo.clock import duration_ns
from otelslo.engine import Engine
from otelslo.errors import DefinitionError
from otelslo.event import Ending, Event
from otelslo.routes import RouteTable, routes_of
from otelslo.slo import SLO

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("otelslo")

_SCOPE_KEY = "otelslo"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_MOST_PATHS = 4096
_RELEARN_S = 1.0


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
    """One request in the middleware, and what the app may say of it: `request.scope["otelslo"].bad("nonsense")`."""

    __slots__ = (
        "_attributes",
        "_edge",
        "_first_ns",
        "_gone",
        "_open",
        "_receive",
        "_scope",
        "_send",
        "_send_failed",
        "_shed",
        "_site",
        "_status",
        "_token",
        "_verdict",
    )  # fmt: skip

    def __init__(self, edge: SLOMiddleware, site: Site, token: int, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._site = site
        self._token = token
        self._scope = scope
        self._receive = receive
        self._send = send
        self._open = token != 0
        self._status = 0
        self._gone = self._send_failed = self._shed = False
        self._attributes: dict[str, str] | None = None
        self._verdict: tuple[str, str] | None = None

    # ── for the app ────────────────────────────────────────────────────────────────────────────────────────────────
    def good(self) -> None:
        """This request was good, whatever its status."""
        self._verdict = ("good", "good")

    def bad(self, reason: str) -> None:
        """This request was bad, whatever its status."""
        self._verdict = ("bad", str(reason))

    def exclude(self, reason: str) -> None:
        """This request does not count."""
        self._verdict = ("excluded", str(reason))

    def shed(self) -> None:
        """The 429 or 503 of this request is our own shedding of load."""
        self._shed = True

    def set(self, **attributes: str) -> None:
        """Attributes to group by, such as version="2026-11-01"."""
        merged = self._attributes or dict(self._edge.engine.attributes)
        self._attributes = merged | {key: str(value) for key, value in attributes.items()}

    # ── the protocol ───────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "http.response.start":
            status = message["status"]
            if status >= 200 or status == 101:
                self._status = status
            return self._send(message)
        if self._open and (
            (kind == "http.response.body" and not message.get("more_body")) or kind == "http.response.pathsend"
        ):
            return self._last(message)
        return self._watched(message)

    async def _last(self, message: Message) -> None:
        await self._watched(message)
        if self._open:
            self._edge.end(self, Ending.COMPLETE)

    async def _watched(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # how a server says that the client is gone
            self._send_failed = True
            raise

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
        return message


class WebsocketExchange(Exchange):
    """One websocket connection; its status is the refusal's, or the close code."""

    __slots__ = ("_accepted",)

    def __init__(self, edge: SLOMiddleware, site: Site, token: int, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(edge, site, token, scope, receive, send)
        self._accepted = False

    def send(self, message: Message) -> Awaitable[None]:
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepted = True
        elif kind == "websocket.close":
            self._status = message.get("code", 1000) if self._accepted else 403
        elif kind == "websocket.http.response.start":
            self._status = message["status"]
        return self._watched(message)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
            if self._status == 0 and self._accepted:
                self._status = 1000  # closed by the client, by whatever code: its own decision
        return message


class SLOMiddleware:
    """Counts every HTTP request and websocket connection of an ASGI app.

    Args:
        app: the wrapped app.
        slos: objectives of an engine of its own; by default the process's engine (see `otelslo.default`).
        engine: an engine to use instead.
        routes: templates ("/items/{id}") of an app whose router we cannot read.
        first_byte: stop the clock at the first body message instead of the last.

    Raises:
        DefinitionError: at start, for a wrong configuration.
    """

    def __init__(
        self,
        app: App,
        slos: Iterable[SLO] | None = None,
        *,
        engine: Engine | None = None,
        routes: Iterable[str] | None = None,
    ) -> None:
        self.app = app
        self._given = engine if engine is not None else Engine(slos) if slos is not None else None
        self._ready = False
        self._disabled = False
        self._declared = None if routes is None else RouteTable.declared(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._ready and not self._disabled:
            self._start()
        kind = scope["type"]
        if self._disabled or _SCOPE_KEY in scope or kind not in ("http", "websocket"):
            await (self._lifespan(scope, receive, send) if kind == "lifespan" else self.app(scope, receive, send))
            return
        try:
            exchange = self._begin(scope, receive, send)
        except Exception as e:
            self.engine.fault("internal", f"a request could not be begun: {type(e).__name__}: {e}")
            await self.app(scope, receive, send)
            return
        scope[_SCOPE_KEY] = exchange
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as e:
            if exchange._open:
                self._failed(exchange, e)
            raise
        if exchange._open:
            self._returned(exchange)

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self) -> None:
        """Have the engine running: at the lifespan's start, or before the first request where there is no lifespan."""
        try:
            engine = self._given or default.engine()
            engine.start()
        except DefinitionError:
            raise
        except Exception as e:
            self._disabled = True
            log.error("otelslo is off in this process: %s", e)
            return
        self.engine = engine
        self._page = engine.page
        self._kernel_begin = engine.kernels.begin
        self._kernel_end = engine.kernels.end
        self._paths: dict[str, dict[str, Site]] = {method: {} for method in (*_METHODS, "_OTHER", "WEBSOCKET")}
        self._sites: dict[tuple[str, str | None], Site] = {}
        self._table: RouteTable | None = self._declared
        self._learn_at = 0.0
        self._ready = True
        self._learn(self.app)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete" and self._ready:
                self._learn(scope.get("app"))
            await send(message)

        await self.app(scope, receive, sent)

    def _learn(self, application: Any) -> None:
        """Read the router of `application`, if it has one, and make ready what its routes will need."""
        routes = None if self._declared is not None else routes_of(application)
        if not routes and self._declared is None:
            return
        try:
            if self._declared is None:
                self._table = RouteTable(routes or ())
            assert self._table is not None
            for path_sites in self._paths.values():
                path_sites.clear()
            for leaf in self._table.leaves:
                kind = "websocket" if leaf.websocket else "http"
                self.engine.names.make_now(kind, leaf.template, self.engine.clock.ring_ns())
                for method in leaf.methods or ("WEBSOCKET" if leaf.websocket else "GET",):
                    self._site(method, leaf.template)
        except Exception as e:
            self.engine.fault("internal", f"the routes could not be read: {type(e).__name__}: {e}")

    # ── begin ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _begin(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        if scope["type"] == "websocket":
            method = "WEBSOCKET"
        else:
            method = scope["method"]
        sites = self._paths.get(method)
        site = None if sites is None else sites.get(scope["path"])
        if site is None or scope.get("root_path"):
            site = self._look_up(method, scope)
        token = self._kernel_begin(self._page, site.track)
        if token == 0:
            token = self._kernel_begin(self._page, site.track) if self.engine.attach() else 0
            if token == 0:
                self.engine.fault("not_attached", "a request was not counted")
        if method == "WEBSOCKET":
            return WebsocketExchange(self, site, token, scope, receive, send)
        return Exchange(self, site, token, scope, receive, send)

    def _look_up(self, method: str, scope: Scope) -> Site:
        if method not in self._paths:
            method = "_OTHER"
        path: str = scope["path"]
        root = scope.get("root_path") or ""
        if root and path.startswith(root):
            path = path[len(root) :] or "/"
        template = None if self._table is None else self._table.template(method, path)
        site = self._site(method, template)
        paths = self._paths[method]
        # Paths that are their own template are as many as routes; others are not remembered, clients make them up.
        if template == path and not root and len(paths) < _MOST_PATHS:
            paths[path] = site
        return site

    def _site(self, method: str, template: str | None, host: str = "") -> Site:
        site = self._sites.get((method, template))
        if site is None:
            kind = "websocket" if method == "WEBSOCKET" else "http"
            track = self.engine.track_for(kind, template, "" if kind == "websocket" else method, host)
            site = Site(kind, "" if kind == "websocket" else method, template, track, self.engine.memo({}))
            self._sites[(method, template)] = site
        return site

    # ── end ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def end(self, exchange: Exchange, ending: Ending, exception: BaseException | None = None) -> None:
        """Commit a request, once; never raises."""
        try:
            site = exchange._site
            plan = None
            if ending is Ending.COMPLETE and exchange._verdict is None and exchange._attributes is None:
                plan = site.plans.get(exchange._status)
            if plan is None:
                plan = self._plan(exchange, ending, exception)
            exchange._open = False
            code = self._kernel_end(self._page, site.track, exchange._token, plan)
            if code != 0:
                self._after(exchange, code)
        except Exception as e:
            exchange._open = False
            self.engine.fault("internal", f"a request could not be ended: {type(e).__name__}: {e}")

    def _plan(self, exchange: Exchange, ending: Ending, exception: BaseException | None) -> int:
        """The plan of an ending that is not remembered; what depends on this request alone is not remembered either."""
        engine, site = self.engine, exchange._site
        if exchange._shed and exchange._status in (429, 503):
            ending = Ending.SHED
        route = site.template
        if route is None:
            route = self._late_route(exchange._scope)
        event = Event(
            site.kind,
            ending=ending,
            route=route,
            method=site.method,
            host=_header(exchange._scope, b"host") or "" if engine.needs_host or engine.dynamic else "",
            status=exchange._status or None,
            exception=None if exception is None else type(exception).__name__,
            latency_ns=max(0, self._now_ns() - exchange._token),
            attributes=exchange._attributes or engine.attributes,
            verdict=exchange._verdict,
            header=lambda name: _header(exchange._scope, name.lower().encode("latin-1")),
        )
        plan = engine.plan_for(event)
        plain = ending is Ending.COMPLETE and exchange._verdict is None and exchange._attributes is None
        if plain and route is site.template and not engine.dynamic and not engine.needs_host:
            site.plans[exchange._status] = plan
        return plan

    def _now_ns(self) -> int:
        return self.engine.clock.ring_ns() if self.engine.clock.manual else duration_ns()

    def _late_route(self, scope: Scope) -> str | None:
        """The template that the framework left in the scope, of a route that our table does not have (yet)."""
        template = scope.get("path_template")
        if template is None:
            route = scope.get("route")
            template = getattr(route, "path_format", None) or getattr(route, "path", None)
        if template is not None and self._declared is None and time.monotonic() >= self._learn_at:
            self._learn_at = time.monotonic() + _RELEARN_S
            self._learn(scope.get("router") or scope.get("app"))
        return str(template) if template is not None else None

    def _after(self, exchange: Exchange, code: int) -> None:
        """Off the usual path: a bad event gets its trace id, a refused one is a fault of ours."""
        if code < 0:
            # The block was taken away or the process forked in between: the request is booked as crashed there.
            self.engine.fault("not_attached", "a request's end was not counted; it will be booked as crashed")
            return
        trace = _trace_id(exchange._scope)
        if trace:
            self.engine.trace_loss(code, trace)

    def _returned(self, exchange: Exchange) -> None:
        """The app is done and no last body was sent."""
        if isinstance(exchange, WebsocketExchange):
            if exchange._accepted or exchange._status:
                exchange._status = exchange._status or 1000
                self.end(exchange, Ending.COMPLETE)
            else:
                self.end(exchange, Ending.CLIENT_CANCEL if exchange._gone else Ending.NO_RESPONSE)
        elif self._client_gone(exchange):
            self.end(exchange, Ending.CLIENT_CANCEL)
        else:
            self.end(exchange, Ending.CUT if exchange._status else Ending.NO_RESPONSE)

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        """The app raised before the last body was sent."""
        if isinstance(exchange, WebsocketExchange) and exchange._gone and isinstance(error, Exception):
            self.end(exchange, Ending.COMPLETE)  # the framework's way to say that the client has closed
        elif self._client_gone(exchange):
            self.end(exchange, Ending.CLIENT_CANCEL)
        elif isinstance(error, Exception):
            self.end(exchange, Ending.EXCEPTION, error)
        else:
            self.end(exchange, Ending.SERVER_CANCEL)

    def _client_gone(self, exchange: Exchange) -> bool:
        if exchange._gone or exchange._send_failed:
            return True
        if isinstance(exchange, WebsocketExchange):
            return False
        return _disconnect_waits(exchange._receive)


def _disconnect_waits(receive: Receive) -> bool:
    """Whether the server's next message, available at once, is the client's disconnect; asked only after an app failed.

    One step of `receive` by hand: it returns without waiting if the message is there, and is dropped if it is not.
    """
    try:
        asyncio.get_running_loop()
        step: Any = receive()
        try:
            step.send(None)
        except StopIteration as answer:
            return bool(answer.value["type"] == "http.disconnect")
        step.close()
    except Exception:
        return False
    return False


def _header(scope: Mapping[str, Any], name: bytes) -> str | None:
    for key, value in scope.get("headers") or ():
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def _trace_id(scope: Scope) -> int:
    """The trace id of a W3C `traceparent` header, 0 if there is none that is well-formed."""
    parts = (_header(scope, b"traceparent") or "").split("-")
    if len(parts) < 4 or len(parts[1]) != 32:
        return 0
    try:
        return int(parts[1], 16)
    except ValueError:
        return 0
