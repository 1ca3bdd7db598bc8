"""The state of one objective at one moment, put together from counts, and its form as JSON that others depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Protocol

from otelslo.about import About
from otelslo.budget import Budget, budget, budget_of, exhausts_in_ns, met
from otelslo.burn import BURN_WINDOWS, burn_rate
from otelslo.counts import Counts
from otelslo.coverage import Coverage
from otelslo.period import Period, Rolling
from otelslo.slices import Slices
from otelslo.throughput import Load
from otelslo.window import HOUR_NS, SECOND_NS, format_duration, format_target

HEALTHY, BREACHED, NO_DATA = 0, 1, 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORECAST_NS = HOUR_NS


class Promised(Protocol):
    """What a decider needs of an objective; an SLO and a Definition both have it."""

    @property
    def name(self) -> str: ...
    @property
    def target_ratio(self) -> Fraction: ...
    @property
    def window_ns(self) -> int: ...
    @property
    def period(self) -> Period | None: ...
    @property
    def slices(self) -> Slices | None: ...
    @property
    def sla_ratio(self) -> Fraction | None: ...
    @property
    def about(self) -> About: ...


@dataclass(frozen=True, slots=True)
class Status:
    """One objective and group at `now_ns`. Times are unix nanoseconds, durations nanoseconds, ratios exact.

    `window_ns` is the window's own length, from `start_ns`; a calendar window ends at `end_ns`, after now, and its days
    are those of `timezone`. `counts` are events, or parts of slices (see `slices`). `projected` is the budget of the
    whole window if events go on as they came since it has been observed; None where it has been observed whole.
    `sla_budget` is that of the looser `sla`. `load` is what came beside a promised rate.

    `whole` is False where the ring does not reach back to the window's start: `counts` then begin at
    `observed_since_ns`. `reasons_total` is not of the window, but of all time since `born_ns`. `excluded_since` are
    events that were good or bad until they were excluded after the fact. `planned_bad` is what of `counts.bad` lies
    inside of planned annotations.

    `dated` says that the events have a time of their own: their counts are the history's, and may be revised. `known`
    is what is known of the predictions that they are of, where somebody asked.
    """

    slo: str
    group: str | None
    target: Fraction
    window_ns: int
    now_ns: int
    observed_since_ns: int | None
    counts: Counts
    budget: Budget
    exhausts_at_ns: int | None
    burn: Mapping[str, Fraction | None]
    reasons_total: Mapping[str, int]
    alerts: tuple[Mapping[str, Any], ...] = ()
    whole: bool = True
    born_ns: int | None = None
    window: str = ""
    start_ns: int = 0
    end_ns: int | None = None
    projected: Budget | None = None
    sla: Fraction | None = None
    sla_budget: Budget | None = None
    slices: Slices | None = None
    empty_slices: int = 0
    unattended_slices: int | None = None
    excluded_since: Counts = field(default_factory=Counts)
    planned_bad: int = 0
    about: About = field(default_factory=About)
    timezone: str | None = None
    load: Load | None = None
    dated: bool = False
    known: Coverage | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if nothing valid happened."""
        return met(self.counts, self.target)

    @property
    def full_budget(self) -> Budget:
        """The budget of a whole window, projected while there has not been one.

        All that decides goes by it: the first failure of a new service, or of a month, has not used up a month.
        """
        return self.budget if self.projected is None else self.projected

    @property
    def full_sla_budget(self) -> Budget | None:
        """As `full_budget`, by the SLA's looser target; None without an SLA."""
        if self.sla is None or self.projected is None:
            return self.sla_budget
        return budget_of(self.projected.allowed / (1 - self.target), self.counts.bad, self.sla, self.window_ns)

    @property
    def observed_ns(self) -> int:
        """How much of the window has been observed."""
        return _observed_ns(self.observed_since_ns, self.start_ns, self.now_ns, self.window_ns)

    @property
    def sla_met(self) -> bool | None:
        """Whether the SLA's looser target is met; None without an SLA, or if nothing valid happened."""
        return None if self.sla is None else met(self.counts, self.sla)

    def to_json(self) -> dict[str, Any]:
        """Plain data: counts are ints, ratios numbers or null, times ISO 8601 in UTC, never NaN or infinity."""
        counts = self.counts
        return {
            "slo": self.slo,
            "group": self.group,
            "target": format_target(self.target),
            "window": self.window,
            "window_start": iso(self.start_ns),
            "window_end": iso(self.end_ns),
            "observed_since": iso(self.observed_since_ns),
            "observed_s": self.observed_ns / SECOND_NS,
            "whole": self.whole,
            "unit": "events" if self.slices is None else self.slices.method,
            "good": counts.good,
            "bad": counts.bad,
            "valid": counts.valid,
            "excluded": counts.excluded,
            "excluded_ratio": _number(counts.excluded_ratio),
            "sli": ratio_number(counts.sli, self.target),
            "met": self.met,
            "budget": self._budget_json(self.budget) | {"exhausts_at": iso(self.exhausts_at_ns)},
            "budget_projected": None if self.projected is None else self._budget_json(self.projected),
            "sla": self._sla_json(),
            "slices": self._slices_json(),
            "throughput": None if self.load is None else self.load.to_json(),
            "excluded_since": {"good": self.excluded_since.good, "bad": self.excluded_since.bad},
            "planned_bad": self.planned_bad,
            "about": self.about.to_json(),
            "burn": {window: _number(rate) for window, rate in self.burn.items()},
            "reasons_total": dict(self.reasons_total),
            "alerts": [dict(alert) for alert in self.alerts],
        }

    def _budget_json(self, of: Budget) -> dict[str, Any]:
        left_ns = of.remaining_time_ns
        return {
            "allowed": _number(of.allowed),
            "spent": of.spent,
            "remaining": _number(of.remaining),
            "remaining_ratio": _number(of.remaining_ratio),
            "allowed_time_s": of.allowed_time_ns / SECOND_NS,
            "remaining_time_s": None if left_ns is None else left_ns / SECOND_NS,
        }

    def _sla_json(self) -> dict[str, Any] | None:
        if self.sla is None or self.sla_budget is None:
            return None
        full = self.full_sla_budget
        return {
            "target": format_target(self.sla),
            "met": self.sla_met,
            "budget": self._budget_json(self.sla_budget),
            "budget_projected": None if self.projected is None or full is None else self._budget_json(full),
        }

    def _slices_json(self) -> dict[str, Any] | None:
        """In whole slices; both denominators: with the ones that were ignored, and without."""
        if self.slices is None:
            return None
        parts = self.slices.parts
        return {
            "length": format_duration(self.slices.length_ns),
            "parts": parts,
            "valid": self.counts.valid // parts,
            "total": self.counts.total // parts,
            "empty": self.empty_slices,
            "empty_rule": self.slices.empty,
            "unattended": self.unattended_slices,
            "unattended_rule": self.slices.unattended,
        }


def assess(
    definition: Promised,
    group: str | None,
    counts_over: Callable[[int], Counts],
    reasons_total: Mapping[str, int],
    observed_since_ns: int | None,
    now_ns: int,
    *,
    counts: Counts | None = None,
    whole: bool = True,
    born_ns: int | None = None,
    excluded_since: Counts = Counts(),  # noqa: B008
    planned_bad: int = 0,
    empty_slices: int = 0,
    unattended_slices: int | None = None,
    load: Load | None = None,
) -> Status:
    """The status of one objective and group. `counts_over(window_ns)` gives the counts up to now of any window.

    `counts` are those of the objective's own window, by default `counts_over` its length. `reasons_total` are counts
    since `born_ns`, by default `observed_since_ns`. `whole` is False where the counts of the objective's window begin
    only at `observed_since_ns` though there were events before.

    The forecast of exhaustion is of `Status.full_budget` and goes by the last hour, or what of it has been observed; in
    a calendar window it is None where the budget lasts to the window's end.
    """
    target, slices = definition.target_ratio, definition.slices
    period = definition.period or Rolling(definition.window_ns)
    start_ns, end_ns = period.bounds(now_ns)
    window_ns = end_ns - start_ns
    counts = counts_over(window_ns) if counts is None else counts
    observed_ns = _observed_ns(observed_since_ns, start_ns, now_ns, window_ns)
    own = budget(counts, target, window_ns)
    projected = _projected(counts, target, window_ns, observed_ns, slices)
    forecast = (own if projected is None else projected, counts_over, target, now_ns, window_ns, observed_ns)
    return Status(
        slo=definition.name,
        group=group,
        target=target,
        window_ns=window_ns,
        now_ns=now_ns,
        observed_since_ns=observed_since_ns,
        counts=counts,
        budget=own,
        exhausts_at_ns=_exhausts_at(*forecast, None if period.rolling else end_ns),
        burn={name: burn_rate(counts_over(size_ns), target) for name, size_ns in _burn_windows(slices, window_ns)},
        reasons_total={reason: count for reason, count in reasons_total.items() if count},
        whole=whole,
        born_ns=observed_since_ns if born_ns is None else born_ns,
        window=period.text,
        start_ns=start_ns,
        end_ns=None if period.rolling else end_ns,
        projected=projected,
        sla=definition.sla_ratio,
        sla_budget=None if definition.sla_ratio is None else budget(counts, definition.sla_ratio, window_ns),
        slices=slices,
        empty_slices=empty_slices,
        unattended_slices=unattended_slices,
        excluded_since=excluded_since,
        planned_bad=planned_bad,
        about=definition.about,
        timezone=None if isinstance(period, Rolling) else period.timezone,
        load=load,
    )


def _exhausts_at(
    full: Budget,
    counts_over: Callable[[int], Counts],
    target: Fraction,
    now_ns: int,
    window_ns: int,
    observed_ns: int,
    end_ns: int | None,
) -> int | None:
    """By the budget of the whole window, at the burn of the last hour, or of as much of it as has been observed."""
    hour_ns = min(_FORECAST_NS, window_ns)
    recent_ns = min(hour_ns, observed_ns) or hour_ns
    in_ns = exhausts_in_ns(full, counts_over(hour_ns), recent_ns, target)
    if in_ns is None or (end_ns is not None and now_ns + in_ns > end_ns):
        return None
    return now_ns + in_ns


def _burn_windows(slices: Slices | None, window_ns: int) -> list[tuple[str, int]]:
    shortest_ns = 0 if slices is None else slices.length_ns
    return [(name, size_ns) for name, size_ns in BURN_WINDOWS if shortest_ns <= size_ns <= window_ns]


def _observed_ns(since_ns: int | None, start_ns: int, now_ns: int, window_ns: int) -> int:
    """How much of the window has been observed."""
    return 0 if since_ns is None else min(max(now_ns - max(since_ns, start_ns), 0), window_ns)


def _projected(
    counts: Counts, target: Fraction, window_ns: int, observed_ns: int, slices: Slices | None
) -> Budget | None:
    """The whole window's budget, where it is not observed whole: as many events a second as so far, or all slices; of
    a promised rate as many slices as so far, since those without load do not count."""
    if not 0 < observed_ns < window_ns or not counts.valid:
        return None
    if slices is None or slices.rate is not None:
        valid = Fraction(counts.valid * window_ns, observed_ns)
    else:
        valid = Fraction(window_ns * slices.parts, slices.length_ns)
    return budget_of(valid, counts.bad, target, window_ns)


class Verdict(Protocol):
    """Of an SLO or a limit."""

    @property
    def met(self) -> bool | None: ...


def healthy(statuses: Iterable[Verdict]) -> int:
    """The exit code of many: 1 if any target is missed, 0 if the ones with data are met, 3 if none has data."""
    verdicts = [status.met for status in statuses]
    if False in verdicts:
        return BREACHED
    return HEALTHY if True in verdicts else NO_DATA


def ratio_number(ratio: Fraction | None, target: Fraction) -> float | None:
    """A ratio as a float that lies on its own side of the target, and is 1.0 only if it is 1."""
    if ratio is None:
        return None
    number = float(ratio)
    for bound in (target, Fraction(1)):
        if ratio < bound and number >= float(bound):
            number = math.nextafter(float(bound), 0.0)
    return number


def _number(value: Fraction | None) -> int | float | None:
    if value is None:
        return None
    return value.numerator if value.denominator == 1 else float(value)


def iso(unix_ns: int | None) -> str | None:
    """Unix ns as ISO 8601 in UTC, to the millisecond; None beyond the year 9999."""
    if unix_ns is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=unix_ns // 1000)
    except OverflowError:  # beyond the year 9999: as good as never
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
