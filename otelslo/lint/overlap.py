"""Rules between objectives: two that are one, two that should be one, and two that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from otelslo.indicators.uptime import HEADER
from otelslo.lint.finding import NOTE, WARNING, Finding, at
from otelslo.lint.patterns import within
from otelslo.slo import SLO
from otelslo.window import format_duration, format_target


def between(slos: Sequence[SLO]) -> Iterator[Finding]:
    for first, second in combinations(slos, 2):
        if _counts_the_same(first, second):
            yield from _twins(first, second)
    probed = [slo for slo in slos if slo.indicator == "uptime" and slo.option("url") is not None]
    for slo in slos if probed else ():
        yield from _probes(slo, probed)
    matches = {slo.name: slo.as_definition.match or {} for slo in slos}
    timed = [slo for slo in slos if slo.threshold_ns is not None]
    for answered in (slo for slo in slos if slo.threshold_ns is None and slo.option("cancel_after") is not None):
        for other in timed:
            yield from _contradiction(answered, other, matches)


def _probes(slo: SLO, probed: Sequence[SLO]) -> Iterator[Finding]:
    """Requests of users and of probes in one objective: a server that answers nobody else still has some good ones."""
    if slo.kind != "http" or any(rule.header is not None for rule in slo.validity.exclusions):
        return
    for prober in probed:
        url = prober.option("url").url
        path = url.path or "/"
        if url.scheme == "tcp" or not slo.matches("http", path, "GET", url.hostname or ""):
            continue
        if path not in slo.validity.health_checks:
            problem = f"the probe of {prober.name!r} asks {path}: a request like any other, where it is this server's"
            remedy = f"Add exclude: [{{name: probe, header: {HEADER}}}]"
            yield at(slo)(NOTE, "probe-counts", problem, remedy)


def _counts_the_same(first: SLO, second: SLO) -> bool:
    """By what is good and valid of which events; user code by itself, as two lambdas may have one name."""
    return (
        first.meaning == second.meaning
        and _code(first) == _code(second)
        and first.slices == second.slices
        and first.planned.to_json() == second.planned.to_json()
        and first.group_values == second.group_values
    )


def _twins(first: SLO, second: SLO) -> Iterator[Finding]:
    if first.period != second.period:
        return
    if first.target_ratio == second.target_ratio:
        problem = f"it counts the same events as {first.name!r}, with the same target and window"
        yield at(second)(WARNING, "duplicate", problem, "Leave one of them out")
        return
    looser, tighter = sorted((first, second), key=lambda slo: slo.target_ratio)
    if tighter.sla_ratio is None:
        problem = f"it counts the same events as {tighter.name!r} over the same window, with a looser target"
        remedy = f"If it is an agreement, write sla: {format_target(looser.target_ratio)!r} there: one row, one alert"
        yield at(looser)(NOTE, "overlap", problem, remedy)


def _contradiction(answered: SLO, timed: SLO, matches: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """A client that leaves after `cancel_after` was let down, and a later answer is still in time."""
    cancel_after_ns, threshold_ns = answered.option("cancel_after"), timed.threshold_ns or 0
    if threshold_ns <= cancel_after_ns:
        return
    one, other = matches[answered.name], matches[timed.name]
    if _holds(one, other) or _holds(other, one):
        after, limit = format_duration(cancel_after_ns), format_duration(threshold_ns)
        problem = (
            f"a client that leaves after {after} was let down, while to {timed.name!r} an answer within {limit} is "
            "still in time"
        )
        path = ("cancel_after",) if answered.cancel_after is not None else ()
        remedy = f"Make cancel_after {limit} or more"
        yield at(answered, *path)(WARNING, "reversed", problem, remedy)


def _holds(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> bool:
    """Whether every event that `narrow` matches is certainly one of `wide`'s."""
    if wide["kind"] != narrow["kind"] or wide["where"] is not None:
        return False
    if wide["route"] is not None and (
        narrow["route"] is None or not all(within(route, wide["route"]) for route in narrow["route"])
    ):
        return False
    if wide["method"] is not None and not set(narrow["method"] or ()) <= set(wide["method"]):
        return False
    if wide["method"] is not None and narrow["method"] is None:
        return False
    return wide["host"] is None or wide["host"] == narrow["host"]


def _where(slo: SLO) -> Any:
    return (slo.match or {}).get("where")


def _code(slo: SLO) -> tuple[Any, ...]:
    excluding = tuple(rule.when for rule in slo.validity.exclusions)
    return (_where(slo), slo.good, slo.valid, *excluding)
