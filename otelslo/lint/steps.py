"""Rules about the policy that `otelslo gate` goes by: steps that are never reached, so what they deny is let out."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from otelslo.alerts import BUDGET_EXHAUSTED, EXCLUSION_SHARE, NO_DATA, SEVERITIES, TICKET
from otelslo.lint.finding import NOTE, WARNING, Finding, at
from otelslo.policy import Condition
from otelslo.slo import SLO


def of(slo: SLO) -> Iterator[Finding]:
    """Of a policy that was written; the default one is for all objectives."""
    if slo.policy is None:
        return
    severities = _severities(slo)
    steps = slo.release_policy.steps
    for index, step in enumerate(steps):
        found = at(slo, "policy", index)
        alert = step.when.alert
        if alert is not None and alert not in severities and alert not in severities.values():
            kind = "none of its alerts is a" if alert in SEVERITIES else "it has no alert"
            problem = f"the step {step.name!r} never applies: {kind} {alert}"
            severity = NOTE if alert in SEVERITIES else WARNING
            yield found(severity, "dead-step", problem, "Change its condition, or the alerts of this objective")
            continue
        earlier = next((one for one in steps[:index] if _implied(step.when, one.when, severities)), None)
        if earlier is not None:
            problem = f"the step {step.name!r} never applies: whenever it would, {earlier.name!r} before it does"
            yield found(WARNING, "shadowed-step", problem, f"Put it before {earlier.name!r}")


def _severities(slo: SLO) -> dict[str, str]:
    """Of each alert that can fire, by its name."""
    plan = slo.alert_plan
    own = {BUDGET_EXHAUSTED: plan.exhausted, EXCLUSION_SHARE: plan.exclusion_share}
    own[NO_DATA] = None if plan.no_data_ns is None else TICKET
    found = {name: severity for name, severity in own.items() if severity is not None}
    return found | {tier.name: tier.severity for tier in plan.tiers}


def _implied(condition: Condition, by: Condition, severities: dict[str, str]) -> bool:
    """Whether `by` certainly holds whenever `condition` does."""
    if condition.no_data is not by.no_data:
        return False
    if by.remaining is not None and not _narrower(condition.remaining, by.remaining):
        return False
    if by.burn is not None:
        own = condition.burn
        if own is None or own[0] != by.burn[0] or own[1] < by.burn[1]:
            return False
    if by.alert is None:
        return True
    return condition.alert is not None and by.alert in (condition.alert, severities.get(condition.alert))


def _narrower(own: tuple[str, Fraction] | None, other: tuple[str, Fraction]) -> bool:
    """Whether "< 10%" and the like says no less than "< 25%"."""
    if own is None or own[0][0] != other[0][0]:
        return False
    if own[1] == other[1]:
        return own[0] == other[0] or "=" in other[0]
    return own[1] < other[1] if own[0][0] == "<" else own[1] > other[1]
