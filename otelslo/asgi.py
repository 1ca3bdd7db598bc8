"""The ASGI edge: speaks the protocol, times what passes, and stays out of the way.

    from otelslo.asgi import SLOMiddleware
    app.add_middleware(SLOMiddleware)          # Starlette, FastAPI: last added is outermost
    app = SLOMiddleware(app, slos)             # anything else

A request ends with its last body message: background tasks are not the user's wait. What the app raises passes through
untouched; what we get wrong is counted, logged once, and never reaches a request. State of a request lives in its
`Exchange`, which the app finds as `scope["otelslo"]`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from otelslo import default
from otelslo.clock import duration_ns
from otelslo.engine import Engine
from otelslo.event import Ending, Event
from otelslo.exchange import (
    Connection,
    Exchange,
    Message,
    Receive,
    Scope,
    Send,
    Site,
    header,
    how_failed,
    trace_id,
)
from otelslo.sites import WEBSOCKET, Methods, Sites, declared_routes
from otelslo.slo import SLO

App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("otelslo")

_SCOPE_KEY = "otelslo"
_COUNTED = frozenset({"http", "websocket"})
_OTHER_BODIES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
_MOST_STATUSES = 1000


class SLOMiddleware:
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
        self.app = app
        self.engine = engine if engine is not None else Engine(slos) if slos is not None else default.engine()
        self._owns_engine = engine is None
        # What it says is the same for every request of this edge, so it is said by the class.
        self._exchange = type("Exchange", (Exchange,), {"counted_by": (self.engine,)})
        self._declared = None if routes is None else declared_routes(routes)
        self._first_byte = first_byte
        self._ready = False
        self._disabled = False
        self._by_path = Methods()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            await self._uncounted(scope, receive, send)
            return
        status = first_ns = 0
        gone: BaseException | bool = False

        async def sending(message: Message) -> None:
            nonlocal token, status, gone, first_ns
            try:
                await send(message)
            except OSError as e:  # how a server says that the client is gone
                gone = e
                raise
            try:
                kind = message["type"]
                if kind == "http.response.start":
                    answered = message["status"]
                    if answered >= 200 or answered == 101:  # others are interim
                        status = answered
                elif token and (kind == "http.response.body" or kind in _OTHER_BODIES):
                    if self._first_byte and not first_ns:
                        first_ns = self.now_ns()
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
            if message.get("type") == "http.disconnect":
                gone = True
            return message

        try:
            await self.app(scope, receiving, sending)
        except BaseException as e:
            begun, token = token, 0
            self._end(site, scope, exchange, begun, status, how_failed(gone, e), e)
            raise
        if token:
            begun, token = token, 0
            unfinished = Ending.CUT if status else Ending.NO_RESPONSE
            self._end(site, scope, exchange, begun, status, Ending.CLIENT_CANCEL if gone else unfinished)

    async def _uncounted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no request: the lifespan, a websocket, what another middleware of ours counts already."""
        kind = scope.get("type")
        if kind == "websocket" and self._ready and _SCOPE_KEY not in scope:
            await self._websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            if kind in _COUNTED and _SCOPE_KEY not in scope:
                scope[_SCOPE_KEY] = Exchange()  # the app may want to say something to it
            await self.app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope[_SCOPE_KEY] = Exchange()
        token = 0
        try:
            site: Site | None = self._sites.find(WEBSOCKET, scope)
            assert site is not None
            token = self._kernel_begin(self._page, site.track) or self._begin_again(site)
        except Exception as e:
            site = self._not_begun(e)

        def ended(ending: Ending, status: int, error: BaseException | None = None) -> None:
            nonlocal token
            begun, token = token, 0
            if site is not None:
                self._end(site, scope, exchange, begun, status, ending, error)

        connection = Connection(receive, send, ended)
        try:
            await self.app(scope, connection.receive, connection.send)
        except BaseException as e:
            ended(*connection.failed(e), e)
            raise
        ended(*connection.returned())

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self, scope: Scope) -> None:
        """Have the engine running: at the lifespan's start, or before the first request where there is no lifespan."""
        engine = self.engine
        try:
            engine.start()
            self._page = engine.page
            self._kernel_begin = engine.kernels.begin
            self._kernel_end = engine.kernels.end
            self._nothing = engine.plan_for(Event(""))  # the plan of no objective and no histogram
        except Exception as e:
            self._disabled = True
            log.error("otelslo is off in this process: %s", e)
            return
        self._sites = Sites(engine, self.app, self._declared, scope["type"] in _COUNTED and "router" in scope)
        self._sites.learn(scope, waiting=True)
        self._by_path = self._sites.by_path
        self._ready = True

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ready and not self.engine.running:  # closed at the end of an earlier lifespan
            self._start(scope)

        async def sent(message: Message) -> None:
            if message.get("type") == "lifespan.startup.complete" and self._ready:
                self._sites.learn(scope, waiting=True)
            await send(message)
            if message.get("type") == "lifespan.shutdown.complete" and self._ready and self._owns_engine:
                self.engine.close()  # commits what is not yet committed; a request after it attaches again

        await self.app(scope, receive, sent)

    # ── begin ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _site_of(self, scope: Scope) -> Site | None:
        """The site of a request that is not remembered by its path; None: nothing to be counted as a request."""
        if not self._ready and not self._disabled:
            self._start(scope)
        if scope["type"] != "http" or self._disabled:
            return None
        return self._sites.find(scope["method"], scope)

    def _joined(self, exchange: Exchange, site: Site) -> Site | None:
        """Another middleware of ours is around this one: count the request too, unless its engine is the same."""
        if self.engine in exchange.counted_by:
            return None
        exchange.counted_by += (self.engine,)
        return site

    def _not_begun(self, error: Exception) -> Site | None:
        self.engine.fault("internal", f"a request could not be begun: {type(error).__name__}: {error}")
        return None

    def _begin_again(self, site: Site) -> int:
        """After a fork, or when our block was taken away: attach. 0: this request is not counted."""
        token = self._kernel_begin(self._page, site.track) if self.engine.attach() else 0
        if token == 0:
            self.engine.fault("not_attached", "a request was not counted")
        return token

    # ── end ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _end(
        self,
        site: Site,
        scope: Scope,
        exchange: Exchange,
        token: int,
        status: int,
        ending: Ending,
        error: BaseException | None = None,
    ) -> None:
        """Commit a request, unless its token is 0: never begun, or ended before. Never raises."""
        if token == 0:
            return
        track = site.track
        try:
            if site.template is None and _routed(scope):
                site = self._sites.late(site, scope)
            plan = site.plans.get(status) if ending is Ending.COMPLETE and not exchange.spoken else None
            if plan is None:
                plan = self._plan(site, scope, exchange, token, status, ending, error)
        except Exception as e:
            plan = self._nothing
            self.engine.fault("internal", f"a request could not be judged: {type(e).__name__}: {e}")
        try:
            code = self._kernel_end(self._page, track, token, plan)
            if code != 0:
                self._after(scope, code)
        except Exception as e:
            self._not_ended(e)

    def _not_ended(self, error: Exception) -> None:
        self.engine.fault("internal", f"a message or end was not understood: {type(error).__name__}: {error}")

    def _plan(
        self,
        site: Site,
        scope: Scope,
        exchange: Exchange,
        token: int,
        status: int,
        ending: Ending,
        error: BaseException | None,
    ) -> int:
        """The plan of an ending that is not remembered; what depends on this request alone is not remembered either."""
        engine = self.engine
        if exchange.is_shed and ending is Ending.COMPLETE and status in (429, 503):
            ending = Ending.SHED
        event = Event(
            site.kind,
            ending=ending,
            route=site.template,
            method=site.method,
            host=header(scope, b"host") or "" if engine.needs_host or engine.dynamic else "",
            status=status or None,
            exception=type(error).__name__ if isinstance(error, Exception) else None,
            latency_ns=max(0, self.now_ns() - token),
            attributes={**engine.attributes, **exchange.attributes} if exchange.attributes else engine.attributes,
            verdict=exchange.verdict,
            header=lambda name: header(scope, name.lower().encode("latin-1")),
        )
        plan = engine.plan_for(event)
        plain = ending is Ending.COMPLETE and not exchange.spoken and not engine.dynamic and not engine.needs_host
        if plain and len(site.plans) < _MOST_STATUSES:
            site.plans[status] = plan
        return plan

    def now_ns(self) -> int:
        """The clock of durations that the kernels read."""
        return self.engine.clock.ring_ns() if self.engine.clock.manual else duration_ns()

    def _after(self, scope: Scope, code: int) -> None:
        """Off the usual path: a bad event gets its trace id, a refused one is a fault of ours."""
        if code < 0:
            # The block was taken away or the process forked in between: the request is booked as crashed there.
            self.engine.fault("not_attached", "a request's end was not counted; it will be booked as crashed")
            return
        trace = trace_id(scope)
        if trace:
            self.engine.trace_loss(code, trace)


def _routed(scope: Scope) -> bool:
    """Whether a framework has left the route that it chose."""
    return "route" in scope or "path_template" in scope
