"""Who is excluded before anything else is asked: health checks by route, and what the operator named.

Nothing that a client sends can exclude its own request, unless the operator named that very header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from otelslo.errors import Place, shown
from otelslo.event import Event
from otelslo.match import Globs, UserCode, import_name, resolve, texts

HEALTH_CHECK = "health_check"
INVALID = "invalid"
DEFAULT_HEALTH_CHECKS = (
    *("/health", "/healthz", "/health/live", "/health/ready", "/live", "/livez", "/liveness"),
    *("/ready", "/readyz", "/readiness", "/startupz", "/ping", "/metrics", "/metrics/*", "/-/healthy", "/-/ready"),
    "/grpc.health.v1.Health/*",
)
REASON = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One rule of the operator: an event that meets all its conditions is excluded, with the rule's name as reason."""

    name: str
    routes: Globs | None = None
    header: str | None = None
    equals: str | None = None
    when: UserCode | None = None

    @property
    def dynamic(self) -> bool:
        """Whether it must see the event itself, beyond its facts."""
        return self.header is not None or self.when is not None

    def covers(self, event: Event) -> bool:
        """Whether the event is excluded by this rule. What a user's `when` raises goes to the caller."""
        if self.routes is not None and (event.route is None or event.route not in self.routes):
            return False
        if self.header is not None:
            value = event.header(self.header)
            if value is None or (self.equals is not None and value != self.equals):
                return False
        return self.when is None or bool(self.when(event))

    def to_json(self) -> dict[str, object]:
        """The rule as plain data, user code by its import name."""
        routes = list(self.routes.patterns) if self.routes is not None else None
        when = import_name(self.when) if self.when is not None else None
        return {"name": self.name, "route": routes, "header": self.header, "equals": self.equals, "when": when}


@dataclass(frozen=True, slots=True)
class Validity:
    """Health checks and the operator's exclusions of one objective, in the order in which they are asked."""

    health_checks: Globs
    exclusions: tuple[Exclusion, ...] = ()

    @property
    def dynamic(self) -> bool:
        return any(exclusion.dynamic for exclusion in self.exclusions)

    def reason(self, event: Event) -> str | None:
        """Why the event is excluded; None if it is not."""
        if event.route is not None and event.route in self.health_checks:
            return HEALTH_CHECK
        for exclusion in self.exclusions:
            if exclusion.covers(event):
                return exclusion.name
        return None


def parse_validity(health_checks: object, exclude: object, place: Place) -> Validity:
    """`health_checks` (None: the defaults; an empty list: none) and `exclude`. Raises DefinitionError."""
    patterns: Sequence[str] = DEFAULT_HEALTH_CHECKS
    if health_checks is not None:
        patterns = texts(health_checks, place.at("health_checks")) if health_checks not in ([], ()) else ()
    spot = place.at("exclude")
    if exclude is None:
        return Validity(Globs(patterns))
    if not isinstance(exclude, list | tuple):
        raise spot.error(f"{shown(exclude)} is no list", 'Write a list of rules: [{name: bots, route: "/bots/*"}]')
    rules = tuple(_parse_exclusion(rule, spot.at(index)) for index, rule in enumerate(exclude))
    return Validity(Globs(patterns), rules)


def _parse_exclusion(value: object, place: Place) -> Exclusion:
    if not isinstance(value, Mapping):
        raise place.error(f"{shown(value)} is no rule", 'Write {name: bots, route: "/bots/*"}')
    place.only(value, ("name", "route", "header", "equals", "when"))
    if not any(value.get(key) is not None for key in ("route", "header", "when")):
        raise place.error("the rule has no condition and would exclude everything", "Add route, header or when")
    if value.get("equals") is not None and value.get("header") is None:
        raise place.at("equals").error("there is no header to compare with", "Name it: header: x-probe")
    return Exclusion(
        parse_reason(value.get("name"), place.at("name")),
        Globs(texts(value["route"], place.at("route"))) if value.get("route") is not None else None,
        _header_name(value["header"], place.at("header")) if value.get("header") is not None else None,
        _header_value(value["equals"], place.at("equals")) if value.get("equals") is not None else None,
        resolve(value["when"], place.at("when")) if value.get("when") is not None else None,
    )


def _header_name(value: object, place: Place) -> str:
    name = place.expect(value, str, "a header's name, such as x-probe")
    if not _HEADER.fullmatch(name):
        raise place.error(f"{shown(name)} is no header name", "Write a name such as x-probe")
    return name.lower()


def _header_value(value: object, place: Place) -> str:
    return place.expect(value, str, 'a text in quotes, such as "1"')


def parse_reason(value: object, place: Place) -> str:
    """A reason's name: letters, digits and _ . - (32 at most), and not a word that has a meaning already."""
    name = place.expect(value, str, "a short name, such as synthetic")
    if not REASON.fullmatch(name):
        raise place.error(f"{shown(name)} cannot be a reason", "Use letters, digits and _ . - (32 at most)")
    if name in ("good", "other"):
        raise place.error(f"{shown(name)} has a meaning of its own", "Choose another name")
    return name
