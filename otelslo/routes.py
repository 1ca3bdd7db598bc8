"""Route templates by raw path, read once from a router like Starlette's or FastAPI's, mounts and included routers too.

Known before the app runs, so that a request cut short by a kill is booked on its own objectives; and always a template
of the app's, never a raw path, so that no client can make names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

_NAMED_GROUP = re.compile(r"\(\?P<[^>]+>")
_MOUNT_TAIL = "/(?P<path>.*)$"
_MOST_DEEP = 16


class Leaf(NamedTuple):
    """One route: its whole template, the pattern of its raw paths, its methods (None: any), whether for websockets."""

    template: str
    pattern: str
    methods: frozenset[str] | None
    websocket: bool | None


class RouteTable:
    """Templates of one application.

    Args:
        routes: a router's list of routes; what is not understood is left out.
    """

    def __init__(self, routes: Iterable[Any]) -> None:
        self.leaves = list(_leaves(routes, "", "", 0))
        self._regexes: dict[str, tuple[re.Pattern[str], list[str]]] = {}

    @classmethod
    def declared(cls, templates: Iterable[str]) -> RouteTable:
        """The table of an app without a router: `/items/{id}` matches one segment, `/files/{path:path}` the rest."""
        table = cls(())
        for template in templates:
            parts = re.split(r"(\{[^}]*\})", template)
            pattern = "".join(
                re.escape(part) if not part.startswith("{") else ".*" if part.endswith(":path}") else "[^/]+"
                for part in parts
            )
            table.leaves.append(Leaf(template, pattern, None, None))
        return table

    def template(self, method: str, path: str) -> str | None:
        """The template that answers `path`; `method` is "WEBSOCKET" for a websocket. None: no route matches.

        As the router does: the first that matches path and method, else the first that matches the path.
        """
        found = self._regexes.get(method)
        if found is None:
            if len(self._regexes) > 16:  # methods are the client's words
                method = "GET"
            found = self._regexes[method] = self._compile(method)
        regex, templates = found
        match = regex.fullmatch(path)
        return None if match is None or match.lastindex is None else templates[match.lastindex - 1]

    def _compile(self, method: str) -> tuple[re.Pattern[str], list[str]]:
        websocket = method == "WEBSOCKET"
        fitting = [leaf for leaf in self.leaves if leaf.websocket in (None, websocket)]
        first = [leaf for leaf in fitting if leaf.methods is None or method in leaf.methods]
        ordered = first + [leaf for leaf in fitting if leaf not in first]
        return re.compile("|".join(f"({leaf.pattern})" for leaf in ordered) or "(?!)"), [leaf[0] for leaf in ordered]


def routes_of(application: Any) -> list[Any] | None:
    """The routes of an application object, if it has any that we understand."""
    try:
        routes = getattr(application, "routes", None)
        return list(routes) if routes is not None and not callable(routes) else None
    except Exception:
        return None


def _leaves(routes: Iterable[Any], template: str, pattern: str, depth: int) -> Iterator[Leaf]:
    if depth > _MOST_DEEP:
        return
    for route in _unfolded(routes):
        regex = getattr(getattr(route, "path_regex", None), "pattern", None)
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
        inner = routes_of(route)
        if regex is None:
            if inner:  # routes by host: the path says nothing
                yield from _leaves(inner, template, pattern, depth + 1)
            continue
        if regex.endswith(_MOUNT_TAIL):
            name = template + str(path).removesuffix("/{path}")
            part = pattern + _plain(regex.removesuffix(_MOUNT_TAIL))
            if inner:
                yield from _leaves(inner, name, part, depth + 1)
            else:
                yield Leaf(name + "/*", part + "/.*", None, None)
        else:
            methods = getattr(route, "methods", None)
            websocket = not hasattr(route, "methods")
            yield Leaf(
                template + str(path), pattern + _plain(regex), frozenset(methods) if methods else None, websocket
            )


def _unfolded(routes: Iterable[Any]) -> Iterator[Any]:
    """FastAPI keeps an included router as one entry; its contexts know prefixes, or the mount that was included."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            for context in contexts():
                yield getattr(context, "starlette_route", None) or context


def _plain(regex: str) -> str:
    """A path regex without anchors and with groups that do not capture."""
    return _NAMED_GROUP.sub("(?:", regex.removeprefix("^").removesuffix("$"))
