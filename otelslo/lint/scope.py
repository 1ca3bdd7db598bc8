"""Rules about which events an objective has: what it matches, who is excluded before it counts, and its groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from otelslo.errors import Key
from otelslo.group import FACTS, METHODS, OTHER_METHOD
from otelslo.lint.finding import ERROR, NOTE, WARNING, Finding, at
from otelslo.lint.patterns import likely, within
from otelslo.match import Globs
from otelslo.routes import Leaf
from otelslo.sizes import CLASS_KEYS
from otelslo.slo import SLO
from otelslo.validity import Exclusion

_NAMES = {
    **{"http": "request", "websocket": "websocket connection", "call": "tracked call"},
    **{"probe": "probe", "sample": "sample of a gauge", "prediction": "prediction"},
}
_REQUESTS = ("http", "websocket")
_BOUNDED = (*FACTS, "version", *CLASS_KEYS)  # as many as the app has, or as many as there are releases or classes
_DEFAULT_GROUPS = 50


def of(slo: SLO, leaves: Sequence[Leaf] | None) -> Iterator[Finding]:
    yield from _methods(slo)
    yield from _exclusions(slo)
    yield from _groups(slo)
    yield from _model(slo)
    if leaves is None or slo.kind not in _REQUESTS:
        yield from _excluded_patterns(slo)
    else:
        yield from _against(slo, leaves)


def _methods(slo: SLO) -> Iterator[Finding]:
    match, kind = _match(slo), _NAMES[slo.kind]
    methods, hosts = match["method"] or (), match["host"]
    found = at(slo, "match", "method")
    if methods and slo.kind != "http":
        problem = f"no {kind} has a method, so it never has an event"
        yield found(WARNING, "no-events", problem, "Leave method out")
    elif unknown := [name for name in methods if name not in METHODS and name != OTHER_METHOD]:
        problem = f"no request has the method {', '.join(unknown)}: methods beyond the usual ones count as _OTHER"
        yield found(WARNING, "no-events", problem, likely(unknown[0], [*METHODS, OTHER_METHOD]))
    if hosts and slo.kind not in _REQUESTS and "" not in Globs(hosts):
        problem = f"no {kind} has a host, so it never has an event"
        yield at(slo, "match", "host")(ERROR, "no-events", problem, "Leave host out")


def _model(slo: SLO) -> Iterator[Finding]:
    """Of a tracked call the name is the model's; a request has only what the app says of it."""
    if slo.indicator == "freshness" and slo.kind in _REQUESTS and slo.option("model") is None:
        kind = _NAMES[slo.kind]
        problem = f"a {kind} that does not say its model is undated, which is bad"
        remedy = "Add model: NAME, or have each say otelslo.current().set(model=NAME, version=VERSION)"
        yield at(slo)(NOTE, "no-model", problem, remedy)


# ── who is excluded ────────────────────────────────────────────────────────────────────────────────────────────────
def _excluding(slo: SLO) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(who excludes, which routes) of all that excludes by the route alone, in the order in which it is asked."""
    yield "a health check", slo.validity.health_checks.patterns
    for rule in slo.validity.exclusions:
        if rule.routes is not None and not rule.dynamic:
            yield f"excluded as {rule.name}", rule.routes.patterns


def _excluder(slo: SLO, pattern: str) -> str | None:
    return next((who for who, patterns in _excluding(slo) if within(pattern, patterns)), None)


def _excluded_patterns(slo: SLO) -> Iterator[Finding]:
    routes = _match(slo)["route"] or ()
    excluded = {route: who for route in routes if (who := _excluder(slo, route)) is not None}
    if not excluded:
        return
    text = ", ".join(f"{route} is {who}" for route, who in excluded.items())
    if len(excluded) == len(set(routes)):
        problem = f"it can never have an event: {text}"
        yield at(slo, "match", "route")(ERROR, "no-events", problem, _remedy(excluded.values()))
    else:
        for route, who in excluded.items():
            path = _pattern_path(slo, routes.index(route))
            problem = f"{route} is {who}, so none of its events count"
            yield at(slo, *path)(WARNING, "excluded-route", problem, _remedy([who]))


def _remedy(excluders: Any) -> str:
    health = any(who == "a health check" for who in excluders)
    return "Write health_checks: [], or only those that are meant" if health else "Take it out of one of them"


def _exclusions(slo: SLO) -> Iterator[Finding]:
    rules, health = slo.validity.exclusions, slo.validity.health_checks.patterns
    for index, rule in enumerate(rules):
        found = at(slo, "exclude", index)
        if rule.routes is not None and all(within(route, health) for route in rule.routes.patterns):
            problem = f"{rule.name!r} never applies: its routes are health checks, which are excluded before"
            yield found(WARNING, "shadowed-rule", problem, "Leave it out, or change health_checks")
            continue
        earlier = next((one for one in rules[:index] if _takes_all(one, rule)), None)
        if earlier is not None:
            problem = f"{rule.name!r} never applies: {earlier.name!r} before it excludes all that it would"
            yield found(WARNING, "shadowed-rule", problem, "Leave it out, or put it first")


def _takes_all(first: Exclusion, second: Exclusion) -> bool:
    """Whether `first` certainly covers every event that `second` covers."""
    if first.routes is not None:
        if second.routes is None:
            return False
        if not all(within(route, first.routes.patterns) for route in second.routes.patterns):
            return False
    if first.header not in (None, second.header) or first.equals not in (None, second.equals):
        return False
    return first.when is None or first.when is second.when


# ── groups ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _groups(slo: SLO) -> Iterator[Finding]:
    declared = slo.group_values or {}
    for key in slo.group_keys:
        if (key == "method" and slo.kind != "http") or (key == "host" and slo.kind not in _REQUESTS):
            problem = f"no {_NAMES[slo.kind]} has a {key}, so it makes no groups"
            yield at(slo, "group_by")(WARNING, "idle-group", problem, f"Leave {key} out")
        elif key not in declared and key not in _BOUNDED and slo.max_groups == _DEFAULT_GROUPS:
            problem = (
                f"nothing says which values {key} has: the first {slo.max_groups} groups that are seen have a budget "
                "of their own, all others share one"
            )
            remedy = f"Add group_values: {{{key}: [...]}}, or say in max_groups how many are expected"
            yield at(slo, "group_by")(WARNING, "unbounded-group", problem, remedy)
        values = declared.get(key, ())
        number = 1 if isinstance(values, str) else len(set(values))
        if number > slo.max_groups:
            problem = f"{number} values of {key} are more than the {slo.max_groups} groups that there may be"
            yield at(slo, "group_values", key)(WARNING, "too-many-groups", problem, f"Add max_groups: {number}")


# ── the app's routes ───────────────────────────────────────────────────────────────────────────────────────────────
def _against(slo: SLO, leaves: Sequence[Leaf]) -> Iterator[Finding]:
    """What it matches and excludes, compared with the routes that there are."""
    match, websocket = _match(slo), slo.kind == "websocket"
    own = [leaf for leaf in leaves if leaf.websocket in (None, websocket)]
    templates = [leaf.template for leaf in own]
    patterns, methods = match["route"], frozenset(match["method"] or ())
    globs = Globs(["*"] if patterns is None else patterns)
    routed = [leaf for leaf in own if leaf.template in globs]
    answered = [leaf for leaf in routed if not methods or leaf.methods is None or methods & leaf.methods]
    kind = "websocket route" if websocket else "route"
    if not routed:
        problem = f"no {kind} of the app matches {' or '.join(patterns)}" if patterns else f"the app has no {kind}"
        remedy = likely(patterns[0], templates) if patterns else "Name another app, or leave the objective out"
        yield at(slo, "match", "route")(WARNING, "no-route", problem, remedy)
    elif not answered:
        there = sorted({method for leaf in routed for method in leaf.methods or ()})
        problem = f"no {kind} that it matches answers {', '.join(sorted(methods))}"
        yield at(slo, "match", "method")(WARNING, "no-route", problem, f"They answer {', '.join(there)}")
    else:
        yield from _all_excluded(slo, [leaf.template for leaf in answered])
        yield from _idle_patterns(slo, patterns or (), templates)
    yield from _idle_exclusions(slo, templates)


def _all_excluded(slo: SLO, templates: Sequence[str]) -> Iterator[Finding]:
    excluded = {name: who for name in templates if (who := _excluder(slo, name)) is not None}
    if len(excluded) == len(set(templates)):
        text = ", ".join(f"{name} is {who}" for name, who in list(excluded.items())[:5])
        problem = f"it can never have an event, of all the app's routes: {text}"
        yield at(slo, "match", "route")(ERROR, "no-events", problem, _remedy(excluded.values()))
    else:
        for index, pattern in enumerate(_match(slo)["route"] or ()):
            if (who := _excluder(slo, pattern)) is not None:
                problem = f"{pattern} is {who}, so none of its events count"
                yield at(slo, *_pattern_path(slo, index))(WARNING, "excluded-route", problem, _remedy([who]))


def _idle_patterns(slo: SLO, patterns: Sequence[str], templates: Sequence[str]) -> Iterator[Finding]:
    for index, pattern in enumerate(patterns):
        globs = Globs([pattern])
        if not any(name in globs for name in templates):
            problem = f"no route of the app matches {pattern}"
            yield at(slo, *_pattern_path(slo, index))(WARNING, "no-route", problem, likely(pattern, templates))


def _idle_exclusions(slo: SLO, templates: Sequence[str]) -> Iterator[Finding]:
    for index, rule in enumerate(slo.validity.exclusions):
        if rule.routes is not None and not any(name in rule.routes for name in templates):
            problem = f"{rule.name!r} never applies: no route of the app matches {' or '.join(rule.routes.patterns)}"
            remedy = likely(rule.routes.patterns[0], templates)
            yield at(slo, "exclude", index, "route")(WARNING, "no-route", problem, remedy)
    health = slo.validity.health_checks
    if slo.health_checks and not any(name in health for name in templates):
        problem = f"no route of the app matches {' or '.join(health.patterns)}"
        yield at(slo, "health_checks")(NOTE, "no-route", problem, likely(health.patterns[0], templates))


def _match(slo: SLO) -> dict[str, Any]:
    return dict(slo.as_definition.match or {})


def _pattern_path(slo: SLO, index: int) -> tuple[Key, ...]:
    written = (slo.match or {}).get("route")
    return ("match", "route") if isinstance(written, str) else ("match", "route", index)
