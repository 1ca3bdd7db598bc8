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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from otelslo import looplag
from otelslo.body_pace import BodyPace
from otelslo.edge import Edge
from otelslo.engine import Engine
from otelslo.event import Ending
from otelslo.exchange import (
    MOST_SIGNS,
    Connection,
    Exchange,
    Message,
    Receive,
    Scope,
    Send,
    Site,
    header,
    how_failed,
)
from otelslo.frameworks import router_of
from otelslo.routes import Routes, RouteTable, application_routes, inner_routes
from otelslo.sites import WEBSOCKET
from otelslo.slo import SLO

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SCOPE_KEY = "otelslo"
_COUNTED = frozenset({"http", "websocket"})
_OTHER_BODIES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
_EVENT_STREAM = "text/event-stream"
_NO_METHOD = "?"  # so that a request cannot pose as a websocket


class SLOMiddleware(Edge):
    """Counts every HTTP request and websocket connection of an ASGI app.

    Args:
        app: the wrapped app.
        slos: objectives of an engine of its own; by default the process's engine (see `otelslo.default`).
        engine: an engine to use instead.
        routes: templates ("/items/{id}") of an app whose router we cannot read; the first that matches a path counts.
        first_byte: a request's clock stops at its first body message instead of its last.

    Raises:
        DefinitionError: the configuration or `routes` is wrong.
    """

    def __init__(
        self,
        app: App,
        slos: Iterable[SLO] | None = None,
        *,
        engine: Engine | None = None,
        routes: Iterable[str] | None = None,
        first_byte: bool = False,
    ) -> None:
        super().__init__(app, slos, engine, routes, first_byte)
        self._inside = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        # The path of every request, kept flat: a class with methods instead of these two closures costs 0.4 us more.
        exchange = self._exchange()
        try:
            # Nothing is known before the start, nor of what has no method and is no request.
            site = self._by_path[scope.get("method")][scope.get("path", "")] or self._site_of(scope)
            if site is not None and scope.setdefault(_SCOPE_KEY, exchange) is not exchange:
                exchange = scope[_SCOPE_KEY]
                site = self._joined(exchange, site)
            token = 0 if site is None else self._kernel_begin(self._page, site.track) or self._begin_again(site)
        except Exception as e:
            site = self._not_begun(e)
        if site is None:
            return await self._uncounted(scope, receive, send)
        status = first_ns = 0
        pace: BodyPace | None = None
        gone: tuple[object, ...] = ()

        async def sending(message: Message) -> None:
            nonlocal token, status, gone, first_ns, pace
            try:
                await send(message)
            except OSError as e:  # how a server says that the client is gone
                gone = (*gone[:MOST_SIGNS], e)
                raise
            try:
                kind = message["type"]
                if kind == "http.response.start":
                    answered = message["status"]
                    if answered >= 200 or answered == 101:  # others are interim
                        status = answered
                        if self._paces and token:
                            pace = self._pace(exchange, message, token)
                elif token and status and (kind == "http.response.body" or kind in _OTHER_BODIES):
                    if self._first_byte and not first_ns:
                        first_ns = self.now_ns()
                    if pace is not None:
                        pace.sent(exchange, message)
                    if message.get("more_body"):
                        return
                    begun, token = token + (self.now_ns() - first_ns if first_ns else 0), 0
                    plan = site.plans.get(status)
                    if plan is None or gone or exchange.spoken or (site.template is None and _routed(scope)):
                        ending = Ending.CLIENT_CANCEL if gone else Ending.COMPLETE
                        self._end(site, scope, exchange, begun, status, ending)
                    elif code := self._kernel_end(self._page, site.track, begun, plan):
                        self._after(scope, code)
            except Exception as e:
                self._not_ended(e)

        async def receiving() -> Message:
            nonlocal gone
            message = await receive()
            try:
                if message["type"] == "http.disconnect":
                    gone = gone or (message,)
            except Exception:
                pass  # no message of the protocol: the server's and the app's to know
            return message

        try:
            result = await self.app(scope, receiving, sending)
        except BaseException as e:
            begun, token = token, 0
            self._end(site, scope, exchange, begun, status, how_failed(gone, e), e)
            raise
        if token:
            begun, token = token, 0
            unfinished = Ending.CUT if status else Ending.NO_RESPONSE
            self._end(site, scope, exchange, begun, status, Ending.CLIENT_CANCEL if gone else unfinished)
        return result  # an app has none to give; one that does is answered for by its server

    async def _uncounted(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """What is no request: the lifespan, a websocket, what another middleware of ours counts already."""
        kind = scope.get("type")
        if kind == "websocket" and self._ready and _SCOPE_KEY not in scope:
            return await self._websocket(scope, receive, send)
        if kind == "lifespan":
            return await self._lifespan(scope, receive, send)
        if (kind == "http" or kind == "websocket") and _SCOPE_KEY not in scope:
            scope[_SCOPE_KEY] = Exchange()  # the app may want to say something to it
        return await self.app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> Any:
        exchange = scope[_SCOPE_KEY] = Exchange()
        token = 0
        try:
            site: Site | None
            site = found = self._find(WEBSOCKET, scope)
            token = self._kernel_begin(self._page, found.track) or self._begin_again(found)
        except Exception as e:
            site = self._not_begun(e)

        def ended(ending: Ending, status: int, error: BaseException | None = None) -> None:
            nonlocal token
            begun, token = token, 0
            if site is not None:
                self._end(site, scope, exchange, begun, status, ending, error)

        connection = Connection(receive, send, ended)
        try:
            result = await self.app(scope, connection.receive, connection.send)
        except BaseException as e:
            ended(*connection.failed(e), e)
            raise
        ended(*connection.returned())
        return result

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self, scope: Scope) -> None:
        """At the lifespan's start, or before the first request where there is no lifespan."""
        # Within a router, the scope's router and app are the outer ones, with other paths.
        self._inside = scope["type"] in _COUNTED and "router" in scope
        super()._start(scope)
        _know_loop()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> Any:
        _know_loop()
        if self._ready and not self.engine.running:  # closed at the end of an earlier lifespan
            self._start(scope)

        async def sent(message: Message) -> None:
            kind = message.get("type") if isinstance(message, Mapping) else None
            if kind == "lifespan.startup.complete" and self._ready:
                self._sites.learn(scope, waiting=True)
            await send(message)
            if kind == "lifespan.shutdown.complete" and self._ready and self._owns_engine:
                self.engine.close()  # commits what is not yet committed; a request after it attaches again

        return await self.app(scope, receive, sent)

    # ── begin ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _site_of(self, scope: Scope) -> Site | None:
        """The site of a request that is not remembered by its path; None: nothing to be counted as a request."""
        if not self._ready and not self._disabled:
            self._start(scope)
        if scope["type"] != "http" or self._disabled:
            return None
        return self._find(scope["method"] or _NO_METHOD, scope)

    def _find(self, method: str, scope: Scope) -> Site:
        sites = self._sites
        host = header(scope, b"host") or "" if sites.by_host else ""
        return sites.find(method, scope["path"], scope.get("root_path") or "", host)

    def _routes(self, scope: Scope) -> Routes | None:
        outer = None if self._inside else scope.get("router") or scope.get("app")
        routes = application_routes(self.app) or application_routes(outer)
        return RouteTable(routes) if routes else router_of(self.app)

    def _pace(self, exchange: Exchange, start: Message, begin_ns: int) -> BodyPace | None:
        """The pace of the response that starts, where an objective may ask for it and nobody keeps it yet."""
        if exchange.pace is not None:
            exchange.pace.begin_ns = begin_ns  # the app counts the tokens itself
            return None
        is_event_stream = (header(start, b"content-type") or "").lstrip().lower().startswith(_EVENT_STREAM)
        if not is_event_stream and not self._paces_all:
            return None
        pace = BodyPace(self.now_ns, begin_ns, is_event_stream)
        if is_event_stream:
            exchange.keep(pace)
        return pace

    # ── end ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _late(self, site: Site, scope: Scope) -> Site:
        if site.template is not None or not _routed(scope):
            return site
        route, chosen = scope.get("route"), scope.get("path_template")
        if chosen is None and not inner_routes(route):  # else it is of no route behind that mount
            chosen = getattr(route, "path_format", None) or getattr(route, "path", None)
        root = scope.get("app_root_path", scope.get("root_path", ""))
        host = header(scope, b"host") or "" if self._sites.by_host else ""
        return self._sites.late(site, chosen, scope["path"], root, host, scope)

    def _header(self, scope: Scope, name: str) -> str | None:
        return header(scope, name.encode("latin-1"))


def _routed(scope: Scope) -> bool:
    """Whether a framework has left the route that it chose."""
    return "route" in scope or "path_template" in scope


def _know_loop() -> None:
    """An objective may ask how late this loop runs what is due."""
    try:
        looplag.know(asyncio.get_running_loop())
    except (RuntimeError, TypeError):
        return  # a loop of another library has no lag that we can tell
