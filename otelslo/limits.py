"""Whether limits are met: what was last observed of each, judged exactly at one moment.

Pure: an observation and the time are arguments, so the command line, the leader and a test say the same. Times are
Unix nanoseconds. What was never observed, or too long ago, is no data, which is never met.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from otelslo import alerts
from otelslo.alerting import Finding, Verdict
from otelslo.alerts import TICKET
from otelslo.errors import BadValue, shown
from otelslo.limit import NUMBER, SECONDS, Limit, exact_duration, exact_number
from otelslo.status import iso
from otelslo.window import (
    DAY_NS,
    MICROSECOND_NS,
    MINUTE_NS,
    SECOND_NS,
    format_duration,
    parse_duration,
    readable_duration,
)

MET, BREACHED, NO_DATA = "met", "breached", "no_data"
ALERT, SILENT = "limit", alerts.NO_DATA
DELAYS_NS = {SILENT: MINUTE_NS}  # after a pause of the host whoever leads has asked by then

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERDICTS: Mapping[str, Verdict] = {MET: "quiet", BREACHED: "firing", NO_DATA: "unknown"}


@dataclass(frozen=True, slots=True)
class Observation:
    """What was last seen of a limit, at `at_wall_ns`: a `value` (durations in ns), or the moment since when it grows.

    `state` is what it was then, and `state_since_wall_ns` since when it had been so.
    """

    unit: str
    value: Fraction | None
    as_of_wall_ns: int | None
    at_wall_ns: int
    state: str = NO_DATA
    state_since_wall_ns: int = 0

    def value_at(self, now_wall_ns: int) -> Fraction:
        """The value at a moment; an age is never negative."""
        if self.as_of_wall_ns is not None:
            return Fraction(max(now_wall_ns - self.as_of_wall_ns, 0))
        assert self.value is not None
        return self.value


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """One limit at `now_wall_ns`; `state` is "met", "breached" or "no_data" since `since_wall_ns` (None: ever).

    `value` (durations in ns) was observed at `at_wall_ns`; it is shown where it is too old to be data. The age of
    `as_of_wall_ns` grew until now.
    """

    limit: Limit
    state: str
    now_wall_ns: int
    value: Fraction | None = None
    since_wall_ns: int | None = None
    at_wall_ns: int | None = None
    as_of_wall_ns: int | None = None
    alerts: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return self.limit.name

    @property
    def met(self) -> bool | None:
        """Whether it is met; None without data."""
        return None if self.state == NO_DATA else self.state == MET

    @property
    def text(self) -> str:
        """The value and its limit: "93 d, limit 90 d"."""
        return f"{self.value_text}, limit {self.limit_text}"

    @property
    def limit_text(self) -> str:
        """The limit for people, exactly."""
        if self.limit.unit == NUMBER:
            return self.limit.text
        short = readable_duration(int(self.limit.bound))
        return short if parse_duration(short) == self.limit.bound else self.limit.text

    @property
    def value_text(self) -> str:
        """The value for people, never on the wrong side of the limit; "nothing observed"."""
        value, bound = self.value, self.limit.bound
        if value is None:
            return "nothing observed"
        if self.limit.unit == NUMBER:
            short = f"{float(value):.6g}"
            right = (Fraction(short) > bound) == (value > bound)
            return short if right else str(_beside(value, bound))
        short = readable_duration(int(value) // SECOND_NS * SECOND_NS if value >= SECOND_NS else int(value))
        right = (parse_duration(short) > bound) == (value > bound)
        return short if right else format_duration(int(value))

    def to_json(self) -> dict[str, Any]:
        """Plain data beside a status's: durations in seconds, times ISO 8601 in UTC, null for what there is not."""
        scale = SECOND_NS if self.limit.unit == SECONDS else 1
        bound = self.limit.bound / scale
        absent = ("group", "target", "window", "observed_since", "good", "bad", "valid", "excluded", "sli")
        return {
            "slo": self.name,
            "name": self.name,
            "kind": "limit",
            **dict.fromkeys(absent),
            "met": self.met,
            "budget": None,
            "burn": None,
            "state": self.state,
            "since": iso(self.since_wall_ns),
            "value": None if self.value is None else _beside(self.value / scale, bound),
            "limit": _beside(bound, bound),
            "unit": self.limit.unit,
            "text": self.text,
            "observed_at": iso(self.at_wall_ns),
            "as_of": iso(self.as_of_wall_ns),
            "stale_after_s": None if self.limit.stale_after_ns is None else self.limit.stale_after_ns / SECOND_NS,
            "severity": self.limit.severity,
            "alerts": [dict(alert) for alert in self.alerts],
        }


def _beside(value: Fraction, bound: Fraction) -> int | float:
    """As a JSON number that lies on its own side of the limit."""
    if value.denominator == 1 and abs(value) < 2**53:
        return value.numerator
    number, edge = float(value), float(bound)
    if value > bound and number <= edge:
        return math.nextafter(edge, math.inf)
    if value < bound and number >= edge:
        return math.nextafter(edge, -math.inf)
    return number


# ── deciding ───────────────────────────────────────────────────────────────────────────────────────────────────────
def assess(limit: Limit, seen: Observation | None, now_wall_ns: int) -> LimitStatus:
    """How a limit stands now. An observation of another unit is of an earlier definition, and none of this one."""
    if seen is None or seen.unit != limit.unit:
        return LimitStatus(limit, NO_DATA, now_wall_ns)
    value, stale_after_ns = seen.value_at(now_wall_ns), limit.stale_after_ns
    state = BREACHED if value > limit.bound else MET
    since_ns = seen.state_since_wall_ns if seen.state == state else seen.at_wall_ns
    if state == BREACHED and seen.as_of_wall_ns is not None:
        since_ns = seen.as_of_wall_ns + int(limit.bound)
    if stale_after_ns is not None and now_wall_ns - seen.at_wall_ns > stale_after_ns:
        state, since_ns = NO_DATA, seen.at_wall_ns + stale_after_ns
    return LimitStatus(limit, state, now_wall_ns, value, since_ns, seen.at_wall_ns, seen.as_of_wall_ns)


def observed(limit: Limit, before: Observation | None, now: Observation) -> Observation:
    """What is to be kept of an observation: with its state, and since when it has been so."""
    last, first = assess(limit, before, now.at_wall_ns), assess(limit, now, now.at_wall_ns)
    since_ns = last.since_wall_ns if last.state == first.state else first.since_wall_ns
    return replace(now, state=first.state, state_since_wall_ns=since_ns or now.at_wall_ns)


def findings(status: LimitStatus) -> list[Finding]:
    """What this says of the limit's alerts: that it is breached, which without data neither begins nor ends; and, where
    values get stale, that nobody has told one since, always a ticket."""
    shown_as = status.to_json()
    data = {key: shown_as[key] for key in ("value", "limit", "unit", "text", "since", "observed_at", "as_of")}
    found = [Finding(ALERT, status.limit.severity, _VERDICTS[status.state], data)]
    if status.limit.stale_after_ns is not None:
        found.append(Finding(SILENT, TICKET, _silent(status), data | {"no_data_ns": status.limit.stale_after_ns}))
    return found


def _silent(status: LimitStatus) -> Verdict:
    if status.state != NO_DATA:
        return "quiet"
    return "unknown" if status.at_wall_ns is None else "firing"


# ── reading what is told ───────────────────────────────────────────────────────────────────────────────────────────
def parse_observation(limit: Limit, value: object, since: object, now_wall_ns: int) -> Observation:
    """What `observe(value)` or `observe(since=...)` tell, one of which is None.

    Raises BadValue: it is nothing that this limit can be compared with.
    """
    if since is None:
        number = exact_number(value) if limit.unit == NUMBER else exact_duration(value)
        return Observation(limit.unit, number, None, now_wall_ns)
    if limit.unit == NUMBER:
        raise BadValue("since= is for ages, and its limit is a number", "Tell the value itself")
    as_of_ns = moment_ns(since)
    if as_of_ns > now_wall_ns + DAY_NS:
        raise BadValue(f"since={shown(since)} is in the future", "Give a moment that is over, as Unix time in seconds")
    return Observation(limit.unit, None, as_of_ns, now_wall_ns)


def moment_ns(moment: object) -> int:
    """Unix ns of a datetime that knows its time zone, or of Unix time in seconds. Raises BadValue."""
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise BadValue(f"{shown(moment)} has no time zone", "Use datetime.now(UTC), or .astimezone()")
        return (moment - _EPOCH) // timedelta(microseconds=1) * MICROSECOND_NS
    try:
        seconds = exact_number(moment)
    except BadValue:
        raise BadValue(f"{shown(moment)} is no moment", "Give a datetime, or Unix time in seconds") from None
    at_ns = math.floor(seconds * SECOND_NS)
    if not -(2**63) <= at_ns < 2**63:
        raise BadValue(f"{shown(moment)} is out of range", "Give Unix time in seconds")
    return at_ns
