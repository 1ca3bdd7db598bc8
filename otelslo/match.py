"""Which events an objective is about, as far as it can be told without user code: globs on what an edge knows.

A glob knows `*` (anything, slashes too) and `?` (one character). Brackets and braces mean themselves, since route
templates are full of them.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from otelslo.errors import DefinitionError, Place, nearest, shown
from otelslo.event import EVENT_KINDS

UserCode = Callable[..., Any]
_PORT = re.compile(r":[0-9]*$")
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Globs:
    """A set of patterns, compiled once, matched in time linear in the text for each star."""

    __slots__ = ("_regex", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._regex = re.compile("|".join(_regex_of(pattern) for pattern in self.patterns) or r"(?!)", re.DOTALL)

    def __contains__(self, text: str) -> bool:
        return self._regex.fullmatch(text) is not None


def _regex_of(pattern: str) -> str:
    """The leftmost place of each part between stars is as good as any other: atomic groups never look back."""
    first, *rest = [re.escape(part).replace(r"\?", ".") for part in re.sub(r"\*+", "*", pattern).split("*")]
    if not rest:
        return f"(?:{first})"
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return f"(?:{first}{middle}.*{rest[-1]})"


@dataclass(frozen=True, slots=True)
class Match:
    """The static part of `match:`; None means "any"."""

    kind: str
    routes: Globs | None = None
    methods: frozenset[str] | None = None
    hosts: Globs | None = None

    def covers(self, kind: str, route: str | None, method: str, host: str) -> bool:
        """Whether such an event can be the objective's. A request that no route matched has no template to match."""
        if kind != self.kind:
            return False
        if self.routes is not None and (route is None or route not in self.routes):
            return False
        if self.methods is not None and method.upper() not in self.methods:
            return False
        return self.hosts is None or _PORT.sub("", host.lower()) in self.hosts


def parse_match(value: Mapping[str, object], default_kind: str, place: Place) -> Match:
    """The static part of a `match` mapping (`where` is the caller's). Raises DefinitionError."""
    place.only(value, ("kind", "route", "method", "host", "where"))
    kind = place.at("kind").expect(value.get("kind", default_kind), str, f"one of {', '.join(EVENT_KINDS)}")
    if kind not in EVENT_KINDS:
        raise place.at("kind").error(f"unknown kind {shown(kind)}", nearest(kind, EVENT_KINDS))
    routes, methods, hosts = (
        texts(value[key], place.at(key)) if value.get(key) is not None else None for key in ("route", "method", "host")
    )
    return Match(
        kind,
        Globs(routes) if routes is not None else None,
        frozenset(method.upper() for method in methods) if methods is not None else None,
        Globs(_PORT.sub("", host.lower()) for host in hosts) if hosts is not None else None,
    )


def texts(value: object, place: Place) -> tuple[str, ...]:
    """A text or a list of texts, none of them empty."""
    items = [value] if isinstance(value, str) else place.expect(value, list | tuple, "a text or a list of texts")  # type: ignore[arg-type]
    if not items:
        raise place.error("the list is empty", "Leave the key out, or name at least one")
    for index, item in enumerate(items):
        spot = place if isinstance(value, str) else place.at(index)
        if not spot.expect(item, str, "a text, in quotes if it looks like something else"):
            raise spot.error("the text is empty", "Leave it out, or write what is meant")
    return tuple(items)


def resolve(value: object, place: Place) -> UserCode:
    """A callable, or the one that an import path "package.module:name" leads to. Raises DefinitionError."""
    if callable(value):
        return _checked(value, place)
    path = place.expect(value, str, 'a callable or an import path such as "mypackage.rules:is_good"')
    found = import_object(path, place)
    if not callable(found):
        raise place.error(f"{shown(path)} is not callable", "Name a function that takes an event")
    return _checked(found, place)


def _checked(function: UserCode, place: Place) -> UserCode:
    if inspect.iscoroutinefunction(function):
        raise place.error(
            f"{import_name(function)} is async, and its answer would come too late", "Use a plain function"
        )
    return function


def import_object(path: str, place: Place) -> Any:
    """The object at "package.module:name". Raises DefinitionError, also for whatever its import raises."""
    if not _IMPORT_PATH.fullmatch(path):
        raise place.error(f"{shown(path)} is no import path", "Write package.module:name")
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
    except DefinitionError:
        raise
    except (Exception, SystemExit) as failure:
        problem = f"{shown(path)} cannot be imported ({type(failure).__name__}: {_one_line(failure)})"
        raise place.error(problem, f"Check its spelling, and that {module_name!r} is on PYTHONPATH") from failure
    return found


def _one_line(failure: BaseException) -> str:
    return " ".join(ascii(str(failure))[1:-1].split())[:200]


def import_name(function: UserCode) -> str:
    """What user code is known by in a definition's meaning: "package.module:name"."""
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{owner.__module__}:{owner.__qualname__}"
