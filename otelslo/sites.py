"""Finds where a request belongs: by raw path at its begin, by what the framework has chosen at its end.

Routes are read from the app's router before traffic, so that a request cut short by a kill is booked on its own
objectives, and rows and histograms are there before the first one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from otelslo.engine import Engine
from otelslo.errors import DefinitionError
from otelslo.event import Event
from otelslo.exchange import Scope, Site, header
from otelslo.routes import RouteTable, application_routes, inner_routes, router_path

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
    """The sites of one app.

    Args:
        application: the wrapped app, asked for its routes.
        declared: the operator's routes, which are then the only ones.
        inside: whether we are within a router: the scope's router and app are then the outer ones, with other paths.
    """

    def __init__(self, engine: Engine, application: Any, declared: RouteTable | None, inside: bool) -> None:
        self.by_path = Methods()  # what a request looks at first; empty until the routes are known
        self._engine = engine
        self._application = application
        self._declared = declared
        self._inside = inside
        self._paths = {method: Paths() for method in (*METHODS, _OTHER_METHOD, WEBSOCKET)}
        self._sites: dict[tuple[str, str | None, int], Site] = {}
        self._table = declared
        self._by_host = engine.needs_host
        self._learn_at, self._learn_wait_s = 0.0, _RELEARN_S

    def learn(self, scope: Scope, *, waiting: bool) -> None:
        """Read the app's router, if it has one, and make ready what its routes need: at once if `waiting` is allowed,
        else by housekeeping."""
        try:
            if self._declared is None:
                outer = None if self._inside else scope.get("router") or scope.get("app")
                routes = application_routes(self._application) or application_routes(outer)
                if not routes and self._table is None:
                    self._index()
                if not routes:
                    return
                self._table = RouteTable(routes)
            assert self._table is not None
            self._by_host = self._engine.needs_host or bool(self._table.hosts)
            self._expect(self._table, waiting)
            self._index()
        except Exception as e:
            self._engine.fault("internal", f"the routes could not be read: {type(e).__name__}: {e}")

    def _expect(self, table: RouteTable, waiting: bool) -> None:
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
        if self._by_host:
            return
        for method in METHODS:
            paths = self.by_path[method] = self._paths[method]
            paths.anywhere = self._site(method, None, "") if self._table is None else None

    def find(self, method: str, scope: Scope) -> Site:
        """The site of a request that has begun; `method` is WEBSOCKET for a connection."""
        if method not in self._paths or (not method and scope["type"] == "http"):
            method = _OTHER_METHOD
        path, root = scope["path"], scope.get("root_path")
        if self._by_host:
            host = header(scope, b"host") or ""
            return self._site(method, self._template(method, scope, host), host)
        if self._table is None:
            template = None
        else:
            template = self._table.template(method, router_path(path, root) if root else path)
        site = self._sites.get((method, template, _ANY_HOST)) or self._site(method, template, "")
        if template is not None and not root and len(path) <= _LONGEST_PATH:
            self._remember(self._paths[method], path, site)
        return site

    def _remember(self, sites: dict[str, Site], path: str, site: Site) -> None:
        """Raw paths are the clients' words: remembered up to a number, then all forgotten."""
        if len(sites) >= _MOST_PATHS:
            sites.clear()
        sites[path] = site

    def _template(self, method: str, scope: Scope, host: str) -> str | None:
        """By the path as the app may have left it, under the root that the server set."""
        if self._table is None:
            return None
        root = scope.get("app_root_path", scope.get("root_path", ""))
        return self._table.template(method, router_path(scope["path"], root), host)

    def _site(self, method: str, template: str | None, host: str) -> Site:
        """One for each method and template; where objectives ask for the host, for each set of objectives too."""
        kind = "http" if method else "websocket"
        track = self._engine.track_for(kind, template, method, host) if self._engine.needs_host else _ANY_HOST
        site = self._sites.get((method, template, track))
        if site is None:
            own = self._engine.track_for(kind, template, method, host) if track == _ANY_HOST else track
            site = self._sites[(method, template, track)] = Site(kind, method, template, own, self._engine.memo({}))
        return site

    def late(self, site: Site, scope: Scope) -> Site:
        """The site of a route that only the framework could tell: one that is new, or behind a rewritten path."""
        route, template = scope.get("route"), scope.get("path_template")
        if self._declared is not None:
            return site
        host = header(scope, b"host") or "" if self._by_host else ""
        known = self._template(site.method, scope, host)
        if known is None and inner_routes(route):
            return site  # of no route behind that mount
        if known is None and self._may_learn():
            self.learn(scope, waiting=False)
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


def declared_routes(routes: Iterable[str]) -> RouteTable:
    """The table of routes that the operator names. Raises DefinitionError."""
    templates = [routes] if isinstance(routes, str) else list(routes)
    for index, template in enumerate(templates):
        if isinstance(routes, str) or not isinstance(template, str) or not template.startswith("/"):
            place = f"SLOMiddleware.routes[{index}]"
            raise DefinitionError(place, f"{template!r} is no route template", 'Give a list such as ["/items/{id}"]')
    return RouteTable.declared(templates)
