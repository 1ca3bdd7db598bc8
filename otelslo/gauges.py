"""What is decided of an objective as gauges: one table for OTLP, meters and `/metrics`, so that all tell the same.

Nothing is told where nothing happened, since no data is not good data; but every alert of a plan is told, at 0 while it
does not fire, so that a rule on it has something to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from otelslo.alerts import BUDGET_EXHAUSTED, EXCLUSION_SHARE, NO_DATA, TICKET, AlertPlan
from otelslo.attributes import ALERT, LABEL_STATE, OUTCOME, SEVERITY, WINDOW
from otelslo.budget import Budget
from otelslo.definition import Definition
from otelslo.limits import LimitStatus
from otelslo.status import Status, ratio_number

Point = tuple[float, dict[str, str]]  # value, attributes beside the objective's own
_Points = Callable[[Status, Definition], Iterator[Point]]
_FIRING = "firing"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric. `points` are those of one objective and group."""

    name: str
    unit: str
    description: str
    points: _Points


def _ratio(value: Fraction | float | None) -> Iterator[Point]:
    if value is not None:
        yield float(value), {}


def _left(of: Budget | None) -> Iterator[Point]:
    return _ratio(None if of is None else of.remaining_ratio)


def _burn_rates(status: Status, definition: Definition) -> Iterator[Point]:
    for window, rate in status.burn.items():
        if rate is not None:
            yield float(rate), {WINDOW: window}


def _alerts(status: Status, definition: Definition) -> Iterator[Point]:
    """One of each alert of the plan, and of what still fires though it is not in the plan any more; a firing one has
    the severity that it fired with."""
    fires = {str(one["name"]): str(one["severity"]) for one in status.alerts if one.get("state") == _FIRING}
    for name, severity in (planned(definition.alerts) | fires).items():
        yield float(name in fires), {ALERT: name, SEVERITY: severity}


def planned(plan: AlertPlan) -> dict[str, str]:
    """The severity of every alert of a plan, by its name."""
    found = {tier.name: tier.severity for tier in plan.tiers}
    found |= {} if plan.no_data_ns is None else {NO_DATA: TICKET}
    more = {BUDGET_EXHAUSTED: plan.exhausted, EXCLUSION_SHARE: plan.exclusion_share}
    return found | {name: severity for name, severity in more.items() if severity is not None}


def _slices(status: Status, definition: Definition) -> Iterator[Point]:
    if status.slices is not None:
        counts, parts = status.counts, status.slices.parts
        for outcome, units in (("good", counts.good), ("bad", counts.bad), ("excluded", counts.excluded)):
            yield units / parts, {OUTCOME: outcome}


def _empty_slices(status: Status, definition: Definition) -> Iterator[Point]:
    if status.slices is not None:
        yield float(status.empty_slices), {}


def _window_events(status: Status, definition: Definition) -> Iterator[Point]:
    """Where a count may be revised: a label takes one away from `lapsed`, which no counter survives."""
    if status.dated and status.slices is None and status.counts.total:
        counts = status.counts
        for outcome, events in (("good", counts.good), ("bad", counts.bad), ("excluded", counts.excluded)):
            yield float(events), {OUTCOME: outcome}


def _predictions(status: Status, definition: Definition) -> Iterator[Point]:
    known = status.known
    if known is not None and known.predictions:
        states = (("labelled", known.labelled), ("pending", known.pending), ("lapsed", known.lapsed))
        for state, count in (*states, ("gone", known.gone)):
            yield float(count), {LABEL_STATE: state}


def _sla_target(status: Status, definition: Definition) -> Iterator[Point]:
    return _ratio(status.sla)


ALERTS = Gauge(
    "slo.alert.firing", "1", "1 while the alert fires, also where a page keeps it from being told; else 0.", _alerts
)
GAUGES = (
    Gauge(
        "slo.sli.ratio",
        "1",
        "Good events (or slices) per valid one over the objective's window.",
        lambda status, _: _ratio(ratio_number(status.counts.sli, status.target)),
    ),
    Gauge("slo.target.ratio", "1", "What is promised.", lambda status, _: _ratio(status.target)),
    Gauge(
        "slo.error_budget.remaining.ratio",
        "1",
        "Share of a whole window's error budget that is left, below 0 if overspent; at the traffic so far while the "
        "window has not been seen whole.",
        lambda status, _: _left(status.full_budget),
    ),
    Gauge("slo.burn_rate", "1", "How many times faster than allowed the budget was spent in slo.window.", _burn_rates),
    ALERTS,
    Gauge("slo.sla.target.ratio", "1", "What the looser agreement beside the objective promises.", _sla_target),
    Gauge(
        "slo.sla.error_budget.remaining.ratio",
        "1",
        "As slo.error_budget.remaining.ratio, of the looser agreement beside the objective.",
        lambda status, _: _left(status.full_sla_budget),
    ),
    Gauge(
        "slo.slices",
        "{slice}",
        "Closed slices of the objective's window by what they count as, where it counts in slices.",
        _slices,
    ),
    Gauge(
        "slo.slices.empty",
        "{slice}",
        "Closed slices of the objective's window without a valid event, whatever they count as.",
        _empty_slices,
    ),
    Gauge(
        "slo.window.events",
        "{event}",
        "Events of the objective's window by what they count as, where they have a time of their own and so may be "
        "revised: predictions, days of predictions, windows of drift. Such objectives have no slo.events.",
        _window_events,
    ),
    Gauge(
        "slo.predictions",
        "{prediction}",
        "Predictions of the objective's window that need a label, by what became of them.",
        _predictions,
    ),
)


@dataclass(frozen=True, slots=True)
class LimitGauge:
    """One metric of limits; durations are in seconds. `value_of` is None where there is nothing to tell."""

    name: str
    description: str
    value_of: Callable[[LimitStatus], float | None]


LIMIT_GAUGES = (
    LimitGauge(
        "slo.limit.value",
        "What was last observed of a limit, an age until now; durations in seconds.",
        lambda status: status.to_json()["value"],
    ),
    LimitGauge(
        "slo.limit.threshold",
        "What the value of a limit must never exceed; durations in seconds.",
        lambda status: status.to_json()["limit"],
    ),
    LimitGauge(
        "slo.limit.breached",
        "1 while a limit is exceeded, else 0; absent while nothing is known.",
        lambda status: None if status.met is None else float(not status.met),
    ),
)


def gauges(alerts_decided: bool) -> tuple[Gauge, ...]:
    """All of them; without alerts where nobody decides them: that none fires would say more than is known."""
    return GAUGES if alerts_decided else tuple(gauge for gauge in GAUGES if gauge is not ALERTS)
