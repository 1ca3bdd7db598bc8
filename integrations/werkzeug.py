"""Werkzeug's DispatcherMiddleware: several apps under one, each below a path of its own.

    app = SLOMiddleware(DispatcherMiddleware(front, {"/api": api}))

Templates of a mounted app have the mount before them: "/api/items/<int:id>"; "/api/*" if nobody can read that app.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from werkzeug.middleware.dispatcher import DispatcherMiddleware

from otelslo.frameworks import router_of
from otelslo.routes import Leaf, Routes


class MountedRoutes:
    """The routes of what is dispatched to."""

    hosts: tuple[()] = ()

    def __init__(self, dispatcher: DispatcherMiddleware) -> None:
        self._mounts: Mapping[str, Any] = dispatcher.mounts
        self._front = router_of(dispatcher.app)
        self._mounted: dict[str, Routes | None] = {mount: router_of(app) for mount, app in dispatcher.mounts.items()}

    @property
    def leaves(self) -> list[Leaf]:
        """All routes, those of the mounts with their prefix."""
        found = [] if self._front is None else self._front.leaves
        for mount, routes in self._mounted.items():
            found += [Leaf(mount + "/*", "", None, None)] if routes is None else _below(mount, routes.leaves)
        return found

    def template(self, method: str, path: str, host: str = "") -> str | None:
        """As the dispatcher does: by the longest mount, which takes whole segments."""
        mount, rest = path, ""
        while "/" in mount and mount not in self._mounted:
            mount, _, last = mount.rpartition("/")
            rest = f"/{last}{rest}"
        if mount not in self._mounted:
            return None if self._front is None else self._front.template(method, path, host)
        routes = self._mounted[mount]
        if routes is None:
            return mount + "/*"
        found = routes.template(method, rest, host)
        return None if found is None else mount + found


def _below(mount: str, leaves: list[Leaf]) -> list[Leaf]:
    return [leaf._replace(template=mount + leaf.template) for leaf in leaves]


def router(application: object) -> MountedRoutes | None:
    """The routes of a dispatcher; None of anything else."""
    return MountedRoutes(application) if isinstance(application, DispatcherMiddleware) else None
