"""What the edges of both web protocols have in common: a request's begin and end in the engine, and our own failures.

Nothing here knows a protocol. A request is whatever its edge hands on (a scope, say), and comes back to that edge's
`_header`, `_routes` and `_late`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from otelslo import default
from otelslo.clock import duration_ns
from otelslo.engine import Engine
from otelslo.event import Ending, Event
from otelslo.exchange import Exchange, Site, trace_of
from otelslo.failure import failure_of
from otelslo.items import plan_for
from otelslo.routes import Routes, RouteTable
from otelslo.sites import Methods, Sites, declared_routes
from otelslo.sizes import told_sizes
from otelslo.slo import SLO
from otelslo.switch import disabled

log = logging.getLogger("otelslo")

_MOST_STATUSES = 1000


class Edge(ABC):
    """The part of a middleware that is the same for ASGI and WSGI.

    Raises:
        DefinitionError: the configuration or `routes` is wrong.
    """

    def __init__(
        self,
        app: Any,
        slos: Iterable[SLO] | None,
        engine: Engine | None,
        routes: Iterable[str] | None,
        first_byte: bool,
    ) -> None:
        self.app = app
        self._disabled = disabled()
        self._owns_engine = engine is None
        if engine is None:
            engine = Engine(()) if self._disabled else Engine(slos) if slos is not None else default.engine()
        self.engine = engine
        # What it says is the same for every request of this edge, so it is said by the class.
        told = {"counted_by": (engine,), "clock_ns": staticmethod(self.now_ns)}
        self._exchange = type("Exchange", (Exchange,), told)
        self._paces, self._paces_all = False, False
        self._declared = None if routes is None else declared_routes(routes)
        self._first_byte = first_byte
        self._ready = False
        self._by_path = Methods()

    @property
    def declared(self) -> RouteTable | None:
        """The routes that the operator named, None if the app's own are read."""
        return self._declared

    # ── what the protocol knows ────────────────────────────────────────────────────────────────────────────────────
    @abstractmethod
    def _routes(self, request: Any) -> Routes | None:
        """The app's routes as they are now."""

    @abstractmethod
    def _header(self, request: Any, name: str) -> str | None:
        """A request header by its lower-case name."""

    @abstractmethod
    def _late(self, site: Site, request: Any) -> Site:
        """The site of the route that the framework has chosen; the same one if it has said nothing else."""

    def _status(self, given: Any) -> int | None:
        """The number of a status as the app gave it, None if it gave none."""
        return given or None

    # ── start ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self, request: Any) -> None:
        """Have the engine running and the routes known."""
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
        self._sites = Sites(engine, self._routes, self._declared, self._decode)
        self._sites.learn(request, waiting=True)
        self._by_path = self._sites.by_path
        self._see_paces()
        engine.on_reload(self._see_paces)
        self._ready = True

    # How raw paths become the text that routes match; None: they are it.
    _decode: Any = None

    def _see_paces(self) -> None:
        """Whether the pace of streamed responses is asked for, and of those that are no event stream too."""
        self._paces, self._paces_all = self.engine.judge.paces_any("http")

    # ── begin ──────────────────────────────────────────────────────────────────────────────────────────────────────
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
        request: Any,
        exchange: Exchange,
        token: int,
        status: Any,
        ending: Ending,
        error: BaseException | None = None,
    ) -> None:
        """Commit a request, unless its token is 0: never begun, or ended before. Never raises."""
        if token == 0:
            return
        track = site.track
        try:
            site = self._late(site, request)
            plan = site.plans.get(status) if ending is Ending.COMPLETE and not exchange.spoken else None
            if plan is None:
                plan = self._plan(site, request, exchange, token, status, ending, error)
        except Exception as e:
            plan = self._nothing
            self.engine.fault("internal", f"a request could not be judged: {type(e).__name__}: {e}")
        try:
            code = self._kernel_end(self._page, track, token, plan)
            if code != 0:
                self._after(request, code)
        except Exception as e:
            self._not_ended(e)

    def _not_ended(self, error: Exception) -> None:
        self.engine.fault("internal", f"a message or end was not understood: {type(error).__name__}: {error}")

    def _plan(
        self,
        site: Site,
        request: Any,
        exchange: Exchange,
        token: int,
        status: Any,
        ending: Ending,
        error: BaseException | None,
    ) -> int:
        """The plan of an ending that is not remembered; what depends on this request alone is not remembered either."""
        engine = self.engine
        number = self._status(status)
        if exchange.is_shed and ending is Ending.COMPLETE and number in (429, 503):
            ending = Ending.SHED
        event = Event(
            site.kind,
            ending=ending,
            route=site.template,
            method=site.method,
            host=self._header(request, "host") or "" if engine.needs_host or engine.dynamic else "",
            status=number,
            exception=type(error).__name__ if isinstance(error, Exception) else None,
            latency_ns=max(0, self.now_ns() - token),
            attributes={**engine.attributes, **exchange.attributes} if exchange.attributes else engine.attributes,
            verdict=exchange.verdict,
            header=lambda name: self._header(request, name.lower()),
            stream=None if exchange.pace is None else exchange.pace.facts(token, self.now_ns()),
            failure=failure_of(error, engine.fault).kind if error is not None and ending is Ending.EXCEPTION else None,
            **self._sizes(exchange, request),
        )
        if site.measure is not None:
            site.measure.count(event, exchange.used)
        plan = plan_for(engine, event, token)
        plain = ending is Ending.COMPLETE and not exchange.spoken and not engine.dynamic and not engine.needs_host
        plain = plain and site.measure is None and not engine.judge.asks_payload
        if plain and len(site.plans) < _MOST_STATUSES:
            site.plans[status] = plan
        return plan

    def _sizes(self, exchange: Exchange, request: Any) -> dict[str, Any]:
        """By the event's fields, what the app has said, and the length of the request's body where someone asks."""
        length = self._content_length(request) if self.engine.judge.asks_payload else None
        if length is None and exchange.items is None and exchange.payload_bytes is None:
            return {}
        return told_sizes(exchange.items, exchange.payload_bytes, length, self.engine.fault)

    def _content_length(self, request: Any) -> str | None:
        """The header of that name."""
        return self._header(request, "content-length")

    def now_ns(self) -> int:
        """The clock of durations that the kernels read."""
        return self.engine.clock.ring_ns() if self.engine.clock.manual else duration_ns()

    def _after(self, request: Any, code: int) -> None:
        """Off the usual path: a bad event gets its trace id, a refused one is a fault of ours."""
        if code < 0:
            # The block was taken away or the process forked in between: the request is booked as crashed there.
            self.engine.fault("not_attached", "a request's end was not counted; it will be booked as crashed")
            return
        trace = trace_of(self._header(request, "traceparent") or "")
        if trace:
            self.engine.trace_loss(code, trace)
