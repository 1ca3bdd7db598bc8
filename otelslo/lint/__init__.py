"""The linter: what a definition that can be read will never do, or not as it seems, before it is in force.

Only what can be proved from the definition is an error or a warning. Whatever a parser can refuse by itself is refused
there, and has no rule here. Nothing is read and no clock is asked: routes, channels and the time are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otelslo.lint import alerts, labels, overlap, promise, scope, steps
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
) -> list[Finding]:
    """All findings, by SLO in their order, the gravest of each first.

    Args:
        routes: the app's; a mere template answers every method, and websockets too. None: not compared.
        channels: kinds of the channels that there are, by name. None: not compared.
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
    order = {slo.name: number for number, slo in enumerate(slos)}
    return sorted(found, key=lambda one: (order[one.slo], SEVERITIES.index(one.severity)))


def _leaf(route: str | Leaf) -> Leaf:
    return Leaf(route, "", None, None) if isinstance(route, str) else route
