"""The tiers of burn-rate alerts, each two windows and how fast the budget burns in both, and the default ones.

A tier is about a share of the budget, so it scales with the objective's window. The defaults are those of the SRE
Workbook. What is known late is in no short window, so where labels are waited for the short windows are longer, and
there is one tier more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from otelslo.binomial import fewest
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS

PAGE, TICKET = "page", "ticket"
SEVERITIES = (PAGE, TICKET)
CONFIDENCE = Fraction(99, 100)

_SLOWEST_DEFAULT = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Tier:
    """Fires when the burn rates of the last `long_ns` and `short_ns` have both been above `factor` for `for_ns`."""

    name: str
    severity: str
    long_ns: int
    short_ns: int
    factor: Fraction
    for_ns: int = 0

    def share(self, window_ns: int) -> Fraction:
        """The share of a whole window's budget that burning at `factor` spends in `long_ns`."""
        return self.factor * self.long_ns / window_ns

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "severity": self.severity,
            "long_ns": self.long_ns,
            "short_ns": self.short_ns,
            "factor_num": self.factor.numerator,
            "factor_den": self.factor.denominator,
            "for_ns": self.for_ns,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tier:
        return cls(
            name=str(data["name"]),
            severity=known_severity(data["severity"]),
            long_ns=int(data["long_ns"]),
            short_ns=int(data["short_ns"]),
            factor=Fraction(int(data["factor_num"]), int(data["factor_den"])),
            for_ns=int(data.get("for_ns", 0)),
        )


def known_severity(value: object) -> str:
    """A severity as it was written. Raises ValueError."""
    if value not in SEVERITIES:
        raise ValueError(f"severity {value!r}")
    return str(value)


@dataclass(frozen=True, slots=True)
class Share:
    """A tier as a share of the budget, before the objective's window makes it a factor."""

    name: str
    severity: str
    long_ns: int
    short_ns: int
    share: Fraction
    least: Fraction = Fraction(0)

    def tier(self, window_ns: int) -> Tier:
        return Tier(self.name, self.severity, self.long_ns, self.short_ns, self.factor(window_ns, self.long_ns))

    def factor(self, window_ns: int, long_ns: int) -> Fraction:
        """How fast the budget burns that spends the share in `long_ns`, never below `least`."""
        return max(self.share * window_ns / long_ns, self.least)


_DEFAULTS = (
    Share("page-fast", PAGE, HOUR_NS, 5 * MINUTE_NS, Fraction(2, 100)),
    Share("page-slow", PAGE, 6 * HOUR_NS, 30 * MINUTE_NS, Fraction(5, 100)),
    Share("ticket-fast", TICKET, DAY_NS, 2 * HOUR_NS, Fraction(10, 100)),
    Share("ticket-slow", TICKET, 3 * DAY_NS, 6 * HOUR_NS, Fraction(10, 100)),
)
_LATE = "ticket-late"
DEFAULT_NAMES = tuple(share.name for share in _DEFAULTS)
KNOWN_NAMES = (*DEFAULT_NAMES, _LATE)


def can_fire(factor: Fraction, target: Fraction) -> bool:
    """Whether any share of failures burns faster than `factor`: all failing burns at 1 / (1 - target)."""
    return factor * (1 - target) < 1


def default_tiers(
    window_ns: int,
    target: Fraction,
    *,
    tickets_only: bool = False,
    slice_ns: int | None = None,
    labels_ns: int | None = None,
) -> tuple[Tier, ...]:
    """The default tiers that make sense for an objective: long window < window, factor >= 1/2, and it can fire.

    `tickets_only` leaves the pages out. With `slice_ns`, for what is judged slice by slice, windows are whole slices,
    at least two, rounded up, and so many that a long window of bad ones alone is no chance. With `labels_ns`, for what
    is known up to so long after it happened, short windows are twice that, up to half of their long one; where none of
    them is, the tier `ticket-late` has windows that are long enough.
    """
    tiers = [
        tier
        for tier in (share.tier(window_ns) for share in bases(window_ns, tickets_only, slice_ns, labels_ns))
        if tier.short_ns < tier.long_ns < window_ns
        and tier.factor >= _SLOWEST_DEFAULT
        and can_fire(tier.factor, target)
        and (slice_ns is None or _has_slices(tier, target, slice_ns))
    ]
    in_time = any(tier.short_ns >= 2 * (labels_ns or 0) for tier in tiers if tier.name != _LATE)
    return tuple(tier for tier in tiers if tier.name != _LATE or not in_time)


def _has_slices(tier: Tier, target: Fraction, slice_ns: int) -> bool:
    slices = tier.long_ns // slice_ns
    return fewest(slices, tier.factor * (1 - target), CONFIDENCE) <= slices


def sees(tier: Tier, labels_ns: int) -> bool:
    """Whether what is known so late still fills a part of the tier's short window, a fifth at least."""
    return 4 * tier.short_ns >= 5 * labels_ns


def bases(window_ns: int, tickets_only: bool, slice_ns: int | None, labels_ns: int | None) -> list[Share]:
    """The default tiers as shares, also those that make no sense for some objective: see `default_tiers`."""
    shares = [share for share in _DEFAULTS if share.severity == TICKET or not tickets_only]
    if slice_ns is not None:
        shares = [
            replace(share, long_ns=_whole(share.long_ns, slice_ns), short_ns=_whole(share.short_ns, slice_ns))
            for share in shares
        ]
    return shares if labels_ns is None else _waiting(shares, window_ns, slice_ns or 1, labels_ns)


def _waiting(shares: list[Share], window_ns: int, slice_ns: int, labels_ns: int) -> list[Share]:
    """Shares for labels that come so late: those that come sooner are told of sooner, by the shorter windows."""
    twice_ns = _whole(2 * labels_ns, slice_ns)
    wider = [
        replace(share, short_ns=max(share.short_ns, min(twice_ns, _down(share.long_ns // 2, slice_ns))))
        for share in shares
    ]
    long_ns = _down(min(max(2 * twice_ns, DAY_NS), window_ns * 3 // 4), slice_ns)
    short_ns = _down(min(max(twice_ns, 2 * HOUR_NS), long_ns * 2 // 3), slice_ns)
    # A share of 10 % would be a burn that the objective allows: its windows may be most of the objective's.
    late = Share(_LATE, TICKET, long_ns, short_ns, Fraction(10, 100), least=Fraction(1))
    return [*wider, late] if short_ns >= 2 * slice_ns and sees(late.tier(window_ns), labels_ns) else wider


def _down(length_ns: int, slice_ns: int) -> int:
    return length_ns // slice_ns * slice_ns


def _whole(length_ns: int, slice_ns: int) -> int:
    return max(-(-length_ns // slice_ns), 2) * slice_ns
