"""Finds where a request belongs: by raw path at its begin, by what the framework has chosen at its end.

Routes are read from the app's router before traffic, so that a request cut short by a kill is booked on its own
objectives, and rows and histograms are there before the first one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from otelslo.engine import Engine
from otelslo.errors import DefinitionError
from otelslo.event import Event
from otelslo.exchange import Site
from otelslo.routes import Routes, RouteTable, router_path

WEBSOCKET = ""  # in the place of a method: no client can send it
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_OTHER_METHOD = "_OTHER"
_ANY_HOST = -1
_MOST_PATHS = 4096
_LONGEST_PATH = 256
_MOST_SITES = 4096
_RELEARN_S, _RELEARN_MOST_S = 0.5, 60.0


class Paths(dict[str, Site]):
    """Sites of one method by raw path; `anywhere` is that of a path that is not remembered."""

    anywhere: Site | None = None

    def __missing__(self, path: str) -> Site | None:
        return self.anywhere


class Methods(dict["str | None", Paths]):
    """Paths by method; none for what has no method, or one that clients make up."""

    def __missing__(self, method: str | None) -> Paths:
        return _NO_PATHS


_NO_PATHS = Paths()


class Sites:
    """The sites of one app, whichever protocol it is reached by.

    Args:
        read: gives the routes that exist now, or None if none can be read; asked again when new ones may have come. Its
            argument is what `learn` and `late` were given as `request`.
        declared: the operator's routes, which are then the only ones.
        decode: makes a raw path the text that routes match.
    """

    def __init__(
        self,
        engine: Engine,
        read: Callable[[Any], Routes | None],
        declared: RouteTable | None,
        decode: Callable[[str], str] | None = None,
    ) -> None:
        self.by_path = Methods()  # what a request looks at first; empty until the routes are known
        self.by_host = engine.needs_host  # whether `find` and `late` must know the host
        self.chosen: Callable[[Any], str | None] | None = None  # the framework's word at a request's end
        self._engine = engine
        self._read = read
        self._declared = declared
        self._decode = decode
        self._paths = {method: Paths() for method in (*METHODS, _OTHER_METHOD, WEBSOCKET)}
        self._sites: dict[tuple[str, str | None, int], Site] = {}
        self._table: Routes | None = declared
        self._learn_at, self._learn_wait_s = 0.0, _RELEARN_S
        engine.on_reload(self._renew)

    def learn(self, request: Any, *, waiting: bool) -> None:
        """Read the app's routes, if it has any, and make ready what they need: at once if `waiting` is allowed, else by
        housekeeping."""
        try:
            if self._declared is None:
                table = self._read(request)
                if table is None and self._table is None:
                    self._index()
                if table is None:
                    return
                self._table, self.chosen = table, getattr(table, "chosen", None)
            assert self._table is not None
            self.by_host = self._engine.needs_host or bool(self._table.hosts)
            self._expect(self._table, waiting)
            self._index()
        except Exception as e:
            self._engine.fault("internal", f"the routes could not be read: {type(e).__name__}: {e}")

    def _renew(self) -> None:
        """Objectives have changed: what was known of tracks and plans holds no longer."""
        self._sites.clear()
        self.by_host = self._engine.needs_host or bool(self._table and self._table.hosts)
        if self._table is not None:
            self._expect(self._table, True)
        self._index()

    def _expect(self, table: Routes, waiting: bool) -> None:
        engine = self._engine
        now = engine.clock.ring_ns()
        for leaf in table.leaves:
            kind = "websocket" if leaf.websocket else "http"
            if waiting:
                engine.names.make_now(kind, leaf.template, now)
            else:
                engine.names.string(leaf.template)
                engine.names.histogram_of(kind, leaf.template)
            methods = (WEBSOCKET,) if leaf.websocket else sorted(leaf.methods or ("GET",))
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

    def _index(self) -> None:
        """Have requests find their sites by raw path; without a router they all go to the one site of their method."""
        for sites in self._paths.values():
            sites.clear()
        self.by_path.clear()
        if self.by_host:
            return
        for method in METHODS:
            paths = self.by_path[method] = self._paths[method]
            paths.anywhere = self._site(method, None, "") if self._table is None else None

    def find(self, method: str, path: str, root: str = "", host: str = "") -> Site:
        """The site of a request that has begun.

        Args:
            method: WEBSOCKET for a connection.
            path: as it came.
            root: what the server took it from, if the path still has it.
            host: asked for only if `by_host`.
        """
        if method not in self._paths:
            method = _OTHER_METHOD
        template = self._template(method, path, root, host)
        if self.by_host:
            return self._site(method, template, host)
        site = self._sites.get((method, template, _ANY_HOST)) or self._site(method, template, "")
        if template is not None and not root and len(path) <= _LONGEST_PATH:
            self._remember(self._paths[method], path, site)
        return site

    def _remember(self, sites: dict[str, Site], path: str, site: Site) -> None:
        """Raw paths are the clients' words: remembered up to a number, then all forgotten."""
        if len(sites) >= _MOST_PATHS:
            sites.clear()
        sites[path] = site

    def _template(self, method: str, path: str, root: str, host: str) -> str | None:
        if self._table is None:
            return None
        try:
            path = path if self._decode is None else self._decode(path)
            return self._table.template(method, router_path(path, root) if root else path, host)
        except Exception as e:  # of the app's own converters
            self._engine.fault("user_code", f"the route of a path could not be told: {type(e).__name__}: {e}")
            return None

    def _site(self, method: str, template: str | None, host: str) -> Site:
        """One for each method and template; where objectives ask for the host, for each set of objectives too."""
        kind = "http" if method else "websocket"
        track = self._engine.track_for(kind, template, method, host) if self._engine.needs_host else _ANY_HOST
        site = self._sites.get((method, template, track))
        if site is None:
            own = self._engine.track_for(kind, template, method, host) if track == _ANY_HOST else track
            measure = self._engine.judge.measures.of(kind, template, method)
            site = Site(kind, method, template, own, self._engine.memo({}), measure)
            self._sites[(method, template, track)] = site
        return site

    def late(self, site: Site, chosen: str | None, path: str, root: str, host: str, request: Any) -> Site:
        """The site of a route that only the framework could tell: one that is new, or behind a rewritten path.

        Args:
            chosen: its word, where the path that the app has left tells nothing; None: it says nothing.
        """
        if self._declared is not None:
            return site
        known = self._template(site.method, path, root, host)
        if known is None and chosen is None:
            return site
        if known is None and self._may_learn():
            self.learn(request, waiting=False)
            known = self._template(site.method, path, root, host)
        return self.named(site, known or chosen, host, bounded=known is None)

    def named(self, site: Site, template: str | None, host: str = "", *, bounded: bool = True) -> Site:
        """The site of that template for what came to `site`; `bounded`: no more of them than a ring could hold."""
        if self._declared is not None or template is None or (bounded and len(self._sites) >= _MOST_SITES):
            return site
        return self._site(site.method, str(template), host)

    def _may_learn(self) -> bool:
        """Seldom, and ever more so: there may be nothing to be learnt."""
        now = time.monotonic()
        if now < self._learn_at:
            return False
        self._learn_wait_s = min(2 * self._learn_wait_s, _RELEARN_MOST_S)
        self._learn_at = now + self._learn_wait_s
        return True


def declared_routes(routes: Iterable[str]) -> RouteTable:
    """The table of routes that the operator names. Raises DefinitionError."""
    templates = [routes] if isinstance(routes, str) else list(routes)
    for index, template in enumerate(templates):
        if isinstance(routes, str) or not isinstance(template, str) or not template.startswith("/"):
            place = f"SLOMiddleware.routes[{index}]"
            raise DefinitionError(place, f"{template!r} is no route template", 'Give a list such as ["/items/{id}"]')
    return RouteTable.declared(templates)
