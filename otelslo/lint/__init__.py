"""The linter: what a definition that can be read will never do, or not as it seems, before it is in force.

Only what can be proved from the definition is an error or a warning. Whatever a parser can refuse by itself is refused
there, and has no rule here. Nothing is read and no clock is asked: routes, channels and the time are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otelslo.limit import Limit
from otelslo.lint import alerts, bounds, labels, overlap, promise, scope, steps
from otelslo.lint.finding import ERROR, NOTE, SEVERITIES, WARNING, Finding
from otelslo.routes import Leaf
from otelslo.slo import SLO

__all__ = ["ERROR", "NOTE", "SEVERITIES", "WARNING", "Finding", "lint"]


def lint(
    slos: Sequence[SLO],
    routes: Iterable[str | Leaf] | None = None,
    *,
    channels: Mapping[str, str] | None = None,
    now_wall_ns: int | None = None,
    limits: Sequence[Limit] = (),
) -> list[Finding]:
    """All findings, by SLO and then by limit in their order, the gravest of each first.

    Args:
        routes: the app's; a mere template answers every method, and websockets too. None: not compared.
        channels: kinds of the channels that there are, by name. None: not compared.
        limits: that go with the SLOs.
        now_wall_ns: unix ns, from which on planned maintenance is looked at. None: it is not.
    """
    leaves = None if routes is None else [_leaf(route) for route in routes]
    found = list(overlap.between(slos))
    for slo in slos:
        found += promise.of(slo, now_wall_ns)
        found += scope.of(slo, leaves)
        found += alerts.of(slo, channels)
        found += steps.of(slo)
        found += labels.of(slo)
    for limit in limits:
        found += bounds.of(limit, channels)
    names = [slo.name for slo in slos] + [limit.name for limit in limits]
    order = {name: number for number, name in enumerate(names)}
    return sorted(found, key=lambda one: (order[one.slo], SEVERITIES.index(one.severity)))


def _leaf(route: str | Leaf) -> Leaf:
    return Leaf(route, "", None, None) if isinstance(route, str) else route
