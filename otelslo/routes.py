"""Route templates by raw path, read once from a router like Starlette's or FastAPI's, mounts and included routers too.

Known before the app runs, so that a request cut short by a kill is booked on its own objectives; and always a template
of the app's, never a raw path, so that no client can make names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

_NAMED_GROUP = re.compile(r"\(\?P<[^>]+>")
_PORT = re.compile(r":[0-9]*$")
_MOUNT_TAIL = "/(?P<path>.*)$"
_LOOSE_TAIL = "(?P<path>.*)$"  # of a mount whose pattern was changed so that it answers without the slash too
_MOST_DEEP = 16
_MOST_ROUTES = 10_000
_MOST_COMPILED = 256


class Leaf(NamedTuple):
    """One route: its whole template, the pattern of its path within its router, its methods (None: any), whether it is
    for websockets (None: for both)."""

    template: str
    pattern: str
    methods: frozenset[str] | None
    websocket: bool | None


class Branch(NamedTuple):
    """A mounted router, by the pattern of its prefix, or one for a host, by its number in `RouteTable.hosts`.

    What comes to it never goes on to the routes after it.
    """

    pattern: str
    inner: Sequence[Leaf | Branch]
    host: int | None = None


class Routes(Protocol):
    """What is known of an app's routes: a `RouteTable`, or what a framework's adapter answers with."""

    @property
    def hosts(self) -> Sequence[Any]:
        """Not empty if a request's host decides, too."""

    @property
    def leaves(self) -> list[Leaf]:
        """All routes that exist now."""

    def template(self, method: str, path: str, host: str = "") -> str | None:
        """The template that answers `path`, or None; `method` is "" for a websocket, `host` the header of that name.

        Of few templates, none of them made by a client.
        """


_Compiled = tuple[re.Pattern[str], dict[int | None, str | None]]


class RouteTable:
    """Templates of one application.

    Args:
        routes: a router's list of routes; what is not understood is left out.
    """

    def __init__(self, routes: Iterable[Any]) -> None:
        self.hosts: list[re.Pattern[str]] = []
        self._left = _MOST_ROUTES
        self._tree: list[Leaf | Branch] = list(self._read(routes, "", ()))
        self._compiled: dict[tuple[str, tuple[bool, ...]], _Compiled] = {}

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
            table._tree.append(Leaf(template, pattern, None, None))
        return table

    @property
    def leaves(self) -> list[Leaf]:
        """All routes, in the router's order."""
        return list(_leaves(self._tree))

    def template(self, method: str, path: str, host: str = "") -> str | None:
        """The template that answers `path`, or None; `method` is "" for a websocket, `host` the header of that name.

        As the router does: the first that matches path and method, else the first that matches the path. Callers bound
        the methods: each is compiled once.
        """
        found = self._compiled.get((method, self._answering(host) if self.hosts else ()))
        if found is None:
            found = self._compile(method, self._answering(host))
        regex, templates = found
        match = regex.fullmatch(path)
        return None if match is None else templates.get(match.lastindex)

    def _answering(self, host: str) -> tuple[bool, ...]:
        """Which of `hosts` match."""
        name = _PORT.sub("", host.lower())
        return tuple(pattern.match(name) is not None for pattern in self.hosts)

    def _compile(self, method: str, hosts: tuple[bool, ...]) -> _Compiled:
        templates: list[str | None] = []
        regex = re.compile(_regex(self._tree, method, hosts, templates) or "(?!)")
        # Convertors may have groups too; ours lie around them, and so are the last to be closed.
        groups: dict[int | None, str | None] = {
            regex.groupindex[f"t{number}"]: template for number, template in enumerate(templates)
        }
        if len(self._compiled) < _MOST_COMPILED:
            self._compiled[(method, hosts)] = (regex, groups)
        return regex, groups

    def _read(self, routes: Iterable[Any], prefix: str, above: tuple[Any, ...]) -> Iterator[Leaf | Branch]:
        for route in _unfolded(routes):
            self._left -= 1
            if self._left < 0:
                return
            host = getattr(route, "host_regex", None)
            pattern = _pattern(route)
            if host is not None:
                self.hosts.append(host)
                number = len(self.hosts) - 1
                yield Branch("", list(self._read(_below(route, above), prefix, (*above, route))), number)
            elif pattern is not None and _is_mount(route):
                yield self._read_mount(route, pattern, prefix, above)
            elif pattern is not None:
                methods = getattr(route, "methods", None)
                websocket = not hasattr(route, "methods")
                yield Leaf(prefix + _path(route), pattern, frozenset(methods) if methods else None, websocket)

    def _read_mount(self, route: Any, pattern: str, prefix: str, above: tuple[Any, ...]) -> Leaf | Branch:
        name = prefix + _path(route).removesuffix("/{path}")
        routes = _below(route, above)
        if routes:
            return Branch(pattern, list(self._read(routes, name, (*above, route))))
        slash = "/" if route.path_regex.pattern.endswith(_MOUNT_TAIL) else ""
        return Leaf(name + "/*", f"{pattern}{slash}.*", None, None)


def application_routes(application: Any) -> list[Any]:
    """The routes of an application, through middleware that keeps what it wraps as `app`; empty if none are found."""
    for _ in range(_MOST_DEEP):
        if application is None:
            break
        try:
            routes = getattr(application, "routes", None)
            if isinstance(routes, list | tuple) and routes:
                return list(routes)
            application = getattr(application, "app", None)
        except Exception:
            break
    return []


def router_path(path: str, root: str) -> str:
    """What a router sees of `path` under the server's `root_path`."""
    if root and path.startswith(root):
        rest = path[len(root) :]
        if not rest or rest.startswith("/"):
            return rest
    return path


def _regex(tree: Sequence[Leaf | Branch], method: str, hosts: tuple[bool, ...], templates: list[str | None]) -> str:
    """One alternative for each entry that can answer, in the router's order, those of other methods last."""

    def named(pattern: str, template: str | None) -> str:
        templates.append(template)
        return f"(?P<t{len(templates) - 1}>{pattern})"

    first: list[str] = []
    others: list[Leaf] = []
    for entry in tree:
        if isinstance(entry, Leaf):
            if entry.websocket not in (None, method == ""):
                continue
            if method and entry.methods is not None and method not in entry.methods:
                others.append(entry)
            else:
                first.append(named(entry.pattern, entry.template))
        elif entry.host is None or hosts[entry.host]:
            inner = _regex(entry.inner, method, hosts, templates) or "(?!)"
            rest = named("(?s:.*)", None)
            first.append(f"(?>{entry.pattern}){'(?=/)' if entry.host is None else ''}(?:{inner}|{rest})")
    return "|".join(first + [named(leaf.pattern, leaf.template) for leaf in others])


def _leaves(tree: Iterable[Leaf | Branch]) -> Iterator[Leaf]:
    for entry in tree:
        if isinstance(entry, Leaf):
            yield entry
        else:
            yield from _leaves(entry.inner)


def _unfolded(routes: Iterable[Any]) -> Iterator[Any]:
    """FastAPI keeps an included router as one entry; its contexts know prefixes, or the mount that was included."""
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is None:
            yield route
        else:
            for context in contexts():
                yield getattr(context, "starlette_route", None) or context


def _path(route: Any) -> str:
    return str(getattr(route, "path_format", None) or getattr(route, "path", ""))


def _is_mount(route: Any) -> bool:
    """A route for `/files/{path:path}` has the same regex as a mount, but no routes."""
    return hasattr(route, "routes") and route.path_regex.pattern.endswith(_LOOSE_TAIL)


def inner_routes(route: Any) -> list[Any]:
    """The routes behind a mount or a host; empty of any other route, and where they cannot be read."""
    if not hasattr(route, "routes"):
        return []
    return application_routes(route) or application_routes(getattr(route, "app", None))


def _below(route: Any, above: tuple[Any, ...]) -> list[Any]:
    """None where a router is mounted in itself."""
    if len(above) >= _MOST_DEEP or any(route is other for other in above):
        return []
    return inner_routes(route)


def _pattern(route: Any) -> str | None:
    """The path regex without anchors and with groups that have no names; None if we cannot use it."""
    regex = getattr(route, "path_regex", None)
    if not isinstance(regex, re.Pattern):
        return None
    tails = (_MOUNT_TAIL, _LOOSE_TAIL) if _is_mount(route) else ("$",)
    text = regex.pattern
    for tail in tails:
        text = text.removesuffix(tail)
    text = _NAMED_GROUP.sub("(?:", text.removeprefix("^"))
    try:
        re.compile(text)
    except re.error:
        return None
    return f"(?i:{text})" if regex.flags & re.IGNORECASE else text
