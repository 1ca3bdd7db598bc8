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
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from otelslo import default
from otelslo.clock import duration_ns
from otelslo.engine import Engine
from otelslo.errors import DefinitionError
from otelslo.event import Ending, Event
from otelslo.exchange import NOWHERE, Exchange, Message, Receive, Scope, Send, Site, WebsocketExchange
from otelslo.routes import RouteTable, application_routes, inner_routes, router_path
from otelslo.slo import SLO

App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("otelslo")

_SCOPE_KEY = "otelslo"
_COUNTED = frozenset({"http", "websocket"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_OTHER_METHOD = "_OTHER"
_WEBSOCKET = ""  # in the place of a method: no client can send it
_ANY_HOST = -1
_ROUTE_KEYS = ("route", "path_template")  # where frameworks leave what they have chosen
_MOST_PATHS = 4096
_MOST_SITES = 4096
_MOST_STATUSES = 1000
_RELEARN_S, _RELEARN_MOST_S = 0.5, 60.0


class SLOMiddleware:
    """Counts every HTTP request and websocket connection of an ASGI app.

    Args:
        app: the wrapped app.
        slos: objectives of an engine of its own; by default the process's engine (see `otelslo.default`).
        engine: an engine to use instead.
        routes: templates ("/items/{id}") of an app whose router we cannot read; the first that matches a path counts.

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
    ) -> None:
        self.app = app
        self.engine = engine if engine is not None else Engine(slos) if slos is not None else default.engine()
        self._declared = None if routes is None else _declared(routes)
        self._ready = False
        self._disabled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._ready and not self._disabled:
            self._start(scope)
        kind = scope["type"]
        if kind not in _COUNTED or _SCOPE_KEY in scope:
            await (self._lifespan(scope, receive, send) if kind == "lifespan" else self.app(scope, receive, send))
            return
        try:
            exchange = self._begin(scope, receive, send)
        except Exception as e:
            exchange = Exchange(self, NOWHERE, 0, scope, receive, send)  # the app may want to say something to it
            if not self._disabled:
                self.engine.fault("internal", f"a request could not be begun: {type(e).__name__}: {e}")
        scope[_SCOPE_KEY] = exchange
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as e:
            if exchange._open:
                self.end(exchange, exchange._failed(e), e if isinstance(e, Exception) else None)
            raise
        if exchange._open:
            self.end(exchange, exchange._returned())

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self, scope: Scope) -> None:
        """Have the engine running: at the lifespan's start, or before the first request where there is no lifespan."""
        engine = self.engine
        try:
            engine.start()
            self._page = engine.page
            self._kernel_begin = engine.kernels.begin
            self._kernel_end = engine.kernels.end
            self._uncounted = engine.plan_for(Event(""))  # of no objective and no histogram
        except Exception as e:
            self._disabled = True
            log.error("otelslo is off in this process: %s", e)
            return
        self._paths: dict[str, dict[str, Site]] = {method: {} for method in (*_METHODS, _OTHER_METHOD, _WEBSOCKET)}
        self._sites: dict[tuple[str, str | None, int], Site] = {}
        self._table = self._declared
        # Inside of a router, the scope's router and app are the outer ones, with other paths than ours.
        self._inside = scope["type"] in _COUNTED and "router" in scope
        self._by_host = engine.needs_host
        self._learn_at, self._learn_wait_s = 0.0, _RELEARN_S
        self._learn(scope, waiting=True)
        self._ready = True

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message.get("type") == "lifespan.startup.complete" and self._ready:
                self._learn(scope, waiting=True)
            await send(message)

        await self.app(scope, receive, sent)

    def _learn(self, scope: Scope, *, waiting: bool) -> None:
        """Read the app's router, if it has one, and make ready what its routes need: at once if `waiting` is allowed,
        else by housekeeping."""
        try:
            if self._declared is None:
                outer = None if self._inside else scope.get("router") or scope.get("app")
                routes = application_routes(self.app) or application_routes(outer)
                if not routes:
                    return
                self._table = RouteTable(routes)
            assert self._table is not None
            self._by_host = self.engine.needs_host or bool(self._table.hosts)
            for sites in self._paths.values():
                sites.clear()
            self._expect(self._table, waiting)
        except Exception as e:
            self.engine.fault("internal", f"the routes could not be read: {type(e).__name__}: {e}")

    def _expect(self, table: RouteTable, waiting: bool) -> None:
        engine = self.engine
        now = engine.clock.ring_ns()
        for leaf in table.leaves:
            kind = "websocket" if leaf.websocket else "http"
            if waiting:
                engine.names.make_now(kind, leaf.template, now)
            else:
                engine.names.string(leaf.template)
                engine.names.histogram_of(kind, leaf.template)
            methods = (_WEBSOCKET,) if leaf.websocket else sorted(leaf.methods or ("GET",))
            for method in methods:
                site = self._site(method if method in self._paths else _OTHER_METHOD, leaf.template, "")
                if method == "HEAD":  # comes with every GET, and is seldom sent: no row until then
                    continue
                event = Event(kind, route=leaf.template, method=site.method, attributes=engine.attributes)
                for objective in engine.objectives:
                    objective.prepare(event)
        if waiting:
            for objective in engine.objectives:
                objective.make_groups(objective.slo.max_groups)
            engine.forget_plans()

    # ── begin ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _begin(self, scope: Scope, receive: Receive, send: Send) -> Exchange:
        method = scope["method"] if scope["type"] == "http" else _WEBSOCKET
        sites = self._paths.get(method)
        site = None if sites is None else sites.get(scope["path"])
        if site is None or scope.get("root_path"):
            site = self._look_up(method, scope)
        token = self._kernel_begin(self._page, site.track)
        if token == 0:
            token = self._kernel_begin(self._page, site.track) if self.engine.attach() else 0
            if token == 0:
                self.engine.fault("not_attached", "a request was not counted")
        if site.kind == "websocket":
            return WebsocketExchange(self, site, token, scope, receive, send)
        return Exchange(self, site, token, scope, receive, send)

    def _look_up(self, method: str, scope: Scope) -> Site:
        if method not in self._paths or (not method and scope["type"] == "http"):
            method = _OTHER_METHOD
        path, root = scope["path"], scope.get("root_path")
        if self._by_host:
            host = _header(scope, b"host") or ""
            return self._site(method, self._template(method, scope, host), host)
        if self._table is None:
            template = None
        else:
            template = self._table.template(method, router_path(path, root) if root else path)
        site = self._sites.get((method, template, _ANY_HOST)) or self._site(method, template, "")
        # Paths that are their own template are as many as routes; others are not remembered, clients make them up.
        if template == path and not root and len(self._paths[method]) < _MOST_PATHS:
            self._paths[method][path] = site
        return site

    def _template(self, method: str, scope: Scope, host: str) -> str | None:
        """By the path as the app may have left it, under the root that the server set."""
        if self._table is None:
            return None
        root = scope.get("app_root_path", scope.get("root_path", ""))
        return self._table.template(method, router_path(scope["path"], root), host)

    def _site(self, method: str, template: str | None, host: str) -> Site:
        """One for each method and template; where objectives ask for the host, for each set of objectives too."""
        kind = "http" if method else "websocket"
        track = self.engine.track_for(kind, template, method, host) if self.engine.needs_host else _ANY_HOST
        site = self._sites.get((method, template, track))
        if site is None:
            own = self.engine.track_for(kind, template, method, host) if track == _ANY_HOST else track
            site = self._sites[(method, template, track)] = Site(kind, method, template, own, self.engine.memo({}))
        return site

    # ── end ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def end(self, exchange: Exchange, ending: Ending, exception: BaseException | None = None) -> None:
        """Commit a request, once; never raises."""
        exchange._open = False
        try:
            site = exchange._site
            if site.template is None and not exchange._scope.keys().isdisjoint(_ROUTE_KEYS):
                site = self._late_site(site, exchange._scope)
            plan = site.plans.get(exchange._status) if ending is Ending.COMPLETE and exchange._said is None else None
            if plan is None:
                plan = self._plan(exchange, site, ending, exception)
        except Exception as e:
            plan = self._uncounted
            self.engine.fault("internal", f"a request could not be judged: {type(e).__name__}: {e}")
        try:
            code = self._kernel_end(self._page, exchange._site.track, exchange._token, plan)
            if code != 0:
                self._after(exchange, code)
        except Exception as e:
            self.engine.fault("internal", f"a request could not be ended: {type(e).__name__}: {e}")

    def _plan(self, exchange: Exchange, site: Site, ending: Ending, exception: BaseException | None) -> int:
        """The plan of an ending that is not remembered; what depends on this request alone is not remembered either."""
        engine, said, scope = self.engine, exchange._said, exchange._scope
        if said is not None and said.shed and ending is Ending.COMPLETE and exchange._status in (429, 503):
            ending = Ending.SHED
        event = Event(
            site.kind,
            ending=ending,
            route=site.template,
            method=site.method,
            host=_header(scope, b"host") or "" if engine.needs_host or engine.dynamic else "",
            status=exchange._status or None,
            exception=None if exception is None else type(exception).__name__,
            latency_ns=max(0, self._now_ns() - exchange._token),
            attributes={**engine.attributes, **said.attributes} if said is not None else engine.attributes,
            verdict=None if said is None else said.verdict,
            header=lambda name: _header(scope, name.lower().encode("latin-1")),
        )
        plan = engine.plan_for(event)
        plain = ending is Ending.COMPLETE and said is None and not engine.dynamic and not engine.needs_host
        if plain and len(site.plans) < _MOST_STATUSES:
            site.plans[exchange._status] = plan
        return plan

    def _now_ns(self) -> int:
        return self.engine.clock.ring_ns() if self.engine.clock.manual else duration_ns()

    def _late_site(self, site: Site, scope: Scope) -> Site:
        """The site of a route that only the framework could tell: one that is new, or behind a rewritten path."""
        route, template = scope.get("route"), scope.get("path_template")
        if self._declared is not None:
            return site
        host = _header(scope, b"host") or "" if self._by_host else ""
        known = self._template(site.method, scope, host)
        if known is None and inner_routes(route):
            return site  # of no route behind that mount
        if known is None and self._may_learn():
            self._learn(scope, waiting=False)
            known = self._template(site.method, scope, host)
        found = known or template or getattr(route, "path_format", None) or getattr(route, "path", None)
        if found is None or (known is None and len(self._sites) >= _MOST_SITES):
            return site
        return self._site(site.method, str(found), host)

    def _may_learn(self) -> bool:
        """Seldom, and ever more so: there may be nothing to be learnt."""
        now = time.monotonic()
        if now < self._learn_at:
            return False
        self._learn_wait_s = min(2 * self._learn_wait_s, _RELEARN_MOST_S)
        self._learn_at = now + self._learn_wait_s
        return True

    def _after(self, exchange: Exchange, code: int) -> None:
        """Off the usual path: a bad event gets its trace id, a refused one is a fault of ours."""
        if code < 0:
            # The block was taken away or the process forked in between: the request is booked as crashed there.
            self.engine.fault("not_attached", "a request's end was not counted; it will be booked as crashed")
            return
        trace = _trace_id(exchange._scope)
        if trace:
            self.engine.trace_loss(code, trace)


def _declared(routes: Iterable[str]) -> RouteTable:
    templates = [routes] if isinstance(routes, str) else list(routes)
    for index, template in enumerate(templates):
        if isinstance(routes, str) or not isinstance(template, str) or not template.startswith("/"):
            place = f"SLOMiddleware.routes[{index}]"
            raise DefinitionError(place, f"{template!r} is no route template", 'Give a list such as ["/items/{id}"]')
    return RouteTable.declared(templates)


def _header(scope: Mapping[str, Any], name: bytes) -> str | None:
    headers = scope.get("headers")
    if isinstance(headers, list | tuple):  # a one-shot iterable is the app's to read
        for key, value in headers:
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
