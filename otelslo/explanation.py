"""The values of an explanation: what happened in a span, and who had which share of its failures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from otelslo.counts import Counts
from otelslo.status import Status
from otelslo.window import SECOND_NS, format_target

NO_VALUE = "none"
_LONGEST_NAME = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Share:
    """The failures that have these values of a breakdown's dimensions; `trace_ids` are the newest three.

    `share` is of all failures if `exact`, else of those that were logged. A value that there was none of is "".
    """

    values: tuple[str, ...]
    count: int
    share: Fraction
    trace_ids: tuple[str, ...]
    exact: bool

    @property
    def label(self) -> str:
        """The values as one printable text; "none" where there was none."""
        return " ".join(printable(value) or NO_VALUE for value in self.values)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Shares by one dimension or by several together, largest first; `told` is what they add up to.

    `asked` is whether somebody has asked for just this one. `untold` of them have no class that is known, since their
    reason has no count of its own; the shares are not exact then.
    """

    by: tuple[str, ...]
    shares: tuple[Share, ...]
    told: int
    exact: bool
    asked: bool = False
    untold: int = 0

    @property
    def tells(self) -> bool:
        """Whether any failure has any of these values; that none has is an answer to whoever asked."""
        return self.asked or any(any(share.values) for share in self.shares)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happened in the `span_ns` before `status.now_ns`. Times are Unix ns, durations ns, ratios exact.

    `status` is of the objective's own window. `counts` are in its unit: events, or parts of slices; `events` are always
    events. `seen_ns` is how much of the span was observed.

    `spent` is the share of the window's budget that went in the span, and `left_ns` how long that budget lasts at the
    span's burn: None if there is no end to it (or, in a calendar window, not before the window's), 0 if it is used up.
    Where the window has not been observed whole, both are of the budget of a whole window with traffic as so far;
    `spent_so_far` is then what the whole window spent, of what its traffic so far allows.

    `logged` of the failures are in the loss log. `since_birth` are failures by reason since `status.born_ns`, always
    exact.
    """

    status: Status
    span_ns: int
    seen_ns: int
    counts: Counts
    events: Counts
    burn: Fraction | None
    spent: Fraction | None
    spent_so_far: Fraction | None
    left_ns: int | None
    logged: int
    breakdowns: tuple[Breakdown, ...]
    since_birth: tuple[tuple[str, int], ...]
    excluded_since: Counts
    planned_bad: int

    @property
    def start_ns(self) -> int:
        """When the span began."""
        return self.status.now_ns - self.span_ns

    @property
    def exact(self) -> bool:
        """Whether the loss log holds every failure of the span."""
        return self.logged == self.events.bad

    def to_json(self) -> dict[str, Any]:
        """Plain data: counts are ints, ratios numbers or null, times ISO 8601 in UTC."""
        status = self.status
        return {
            "slo": status.slo,
            "group": status.group,
            "target": format_target(status.target),
            "window": status.window,
            "start": _iso(self.start_ns),
            "end": _iso(status.now_ns),
            "seen_s": self.seen_ns / SECOND_NS,
            "window_observed_s": status.observed_ns / SECOND_NS,
            "unit": "events" if status.slices is None else status.slices.method,
            **_counts_json(self.counts),
            "events": _counts_json(self.events),
            "excluded_since": {"good": self.excluded_since.good, "bad": self.excluded_since.bad},
            "planned_bad": self.planned_bad,
            "burn": _number(self.burn),
            "budget_share": _number(self.spent),
            "budget_share_so_far": _number(self.spent_so_far),
            "left_s": None if self.left_ns is None else self.left_ns / SECOND_NS,
            "logged": self.logged,
            "exact": self.exact,
            "shares": [_breakdown_json(one) for one in self.breakdowns],
            "reasons_total": dict(self.since_birth),
            "reasons_since": None if status.born_ns is None else _iso(status.born_ns),
        }


def printable(text: str, longest: int = _LONGEST_NAME) -> str:
    """A name that came with requests as a message may hold it: on one line, no control characters, not too long."""
    plain = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."


def _breakdown_json(one: Breakdown) -> dict[str, Any]:
    return {
        "by": list(one.by),
        "exact": one.exact,
        "of": one.told,
        "shares": [
            {
                **dict(zip(one.by, (value or None for value in share.values), strict=True)),
                "count": share.count,
                "share": float(share.share),
                "trace_ids": list(share.trace_ids),
            }
            for share in one.shares
        ],
    }


def _counts_json(counts: Counts) -> dict[str, int]:
    return {"good": counts.good, "bad": counts.bad, "valid": counts.valid, "excluded": counts.excluded}


def _number(value: Fraction | None) -> int | float | None:
    if value is None:
        return None
    return value.numerator if value.denominator == 1 else float(value)


def _iso(unix_ns: int) -> str:
    moment = _EPOCH + timedelta(microseconds=unix_ns // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
