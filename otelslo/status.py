"""The state of one objective at one moment, put together from counts, and its form as JSON that others depend on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, Protocol

from otelslo.budget import Budget, budget, exhausts_in_ns, met
from otelslo.burn import BURN_WINDOWS, burn_rate
from otelslo.counts import Counts
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


@dataclass(frozen=True, slots=True)
class Status:
    """One objective and group at `now_ns`. Times are unix nanoseconds, durations nanoseconds, ratios exact.

    `whole` is False where the ring does not reach back to the window's start: `counts` then begin at
    `observed_since_ns`. `reasons_total` is not of the window, but of all time since `born_ns`.
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

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if nothing valid happened."""
        return met(self.counts, self.target)

    @property
    def observed_ns(self) -> int:
        """How much of the window has been observed."""
        if self.observed_since_ns is None:
            return 0
        return min(max(self.now_ns - self.observed_since_ns, 0), self.window_ns)

    def to_json(self) -> dict[str, Any]:
        """Plain data: counts are ints, ratios numbers or null, times ISO 8601 in UTC, never NaN or infinity."""
        counts = self.counts
        return {
            "slo": self.slo,
            "group": self.group,
            "target": format_target(self.target),
            "window": format_duration(self.window_ns),
            "observed_since": _iso(self.observed_since_ns),
            "observed_s": self.observed_ns / SECOND_NS,
            "whole": self.whole,
            "good": counts.good,
            "bad": counts.bad,
            "valid": counts.valid,
            "excluded": counts.excluded,
            "excluded_ratio": _number(counts.excluded_ratio),
            "sli": ratio_number(counts.sli, self.target),
            "met": self.met,
            "budget": self._budget_json(),
            "burn": {window: _number(rate) for window, rate in self.burn.items()},
            "reasons_total": dict(self.reasons_total),
            "alerts": [dict(alert) for alert in self.alerts],
        }

    def _budget_json(self) -> dict[str, Any]:
        left_ns = self.budget.remaining_time_ns
        return {
            "allowed": _number(self.budget.allowed),
            "spent": self.budget.spent,
            "remaining": _number(self.budget.remaining),
            "remaining_ratio": _number(self.budget.remaining_ratio),
            "allowed_time_s": self.budget.allowed_time_ns / SECOND_NS,
            "remaining_time_s": None if left_ns is None else left_ns / SECOND_NS,
            "exhausts_at": _iso(self.exhausts_at_ns),
        }


def assess(
    definition: Promised,
    group: str | None,
    counts_over: Callable[[int], Counts],
    reasons_total: Mapping[str, int],
    observed_since_ns: int | None,
    now_ns: int,
    *,
    whole: bool = True,
    born_ns: int | None = None,
) -> Status:
    """The status of one objective and group. `counts_over(window_ns)` gives the counts up to now of any window.

    `reasons_total` are counts since `born_ns`, by default `observed_since_ns`. `whole` is False where the counts of the
    objective's window begin only at `observed_since_ns` though there were events before.

    The forecast of exhaustion goes by the last hour, or the whole window if that is shorter.
    """
    target, window_ns = definition.target_ratio, definition.window_ns
    counts = counts_over(window_ns)
    left = budget(counts, target, window_ns)
    recent_ns = min(_FORECAST_NS, window_ns)
    in_ns = exhausts_in_ns(left, counts_over(recent_ns), recent_ns, target)
    return Status(
        slo=definition.name,
        group=group,
        target=target,
        window_ns=window_ns,
        now_ns=now_ns,
        observed_since_ns=observed_since_ns,
        counts=counts,
        budget=left,
        exhausts_at_ns=None if in_ns is None else now_ns + in_ns,
        burn={name: burn_rate(counts_over(size_ns), target) for name, size_ns in BURN_WINDOWS if size_ns <= window_ns},
        reasons_total={reason: count for reason, count in reasons_total.items() if count},
        whole=whole,
        born_ns=observed_since_ns if born_ns is None else born_ns,
    )


def healthy(statuses: Iterable[Status]) -> int:
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


def _iso(unix_ns: int | None) -> str | None:
    if unix_ns is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=unix_ns // 1000)
    except OverflowError:  # beyond the year 9999: as good as never
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
