"""The error budget: how many events may fail, how many did, and when it runs out at the present rate.

Exact throughout: a target is a ratio of integers, and whether it is met is decided by multiplying, not by dividing.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from otelslo.burn import burn_rate
from otelslo.counts import Counts


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget of one window.

    `allowed`, `spent` and `remaining` are events (`remaining` is below zero when overspent); `remaining_ratio` is
    remaining / allowed. The times are the same budget as nanoseconds of full outage: `allowed_time_ns` of the window,
    and what is left of it, rounded down. What rests on traffic is None while there was none.
    """

    allowed: Fraction
    spent: int
    remaining: Fraction
    remaining_ratio: Fraction | None
    allowed_time_ns: int
    remaining_time_ns: int | None

    @property
    def allowed_events(self) -> int:
        """How many whole events may fail: `allowed` rounded down."""
        return self.allowed.numerator // self.allowed.denominator


_WHOLE = Fraction(1)


def budget(counts: Counts, target: Fraction, window_ns: int) -> Budget:
    """The budget of a window of `window_ns` with these counts: allowed = (1 - target) * valid."""
    return budget_of(Fraction(counts.valid), counts.bad, target, window_ns)


def budget_of(valid: Fraction, bad: int, target: Fraction, window_ns: int) -> Budget:
    """The budget of a window with so many valid events, `bad` of them bad."""
    # In whole numbers as far as it goes: operators of Fraction take several times as long.
    part, whole = target.denominator - target.numerator, target.denominator
    allowed, scale = part * valid.numerator, whole * valid.denominator
    remaining = allowed - bad * scale
    time_ns = None if not valid else part * window_ns * remaining // (whole * allowed)
    allowance = Fraction(allowed, scale)
    return Budget(
        allowed=allowance,
        spent=bad,
        remaining=Fraction(remaining, scale) if bad else allowance,
        remaining_ratio=(Fraction(remaining, allowed) if bad else _WHOLE) if valid else None,
        allowed_time_ns=part * window_ns // whole,
        remaining_time_ns=time_ns,
    )


def met(counts: Counts, target: Fraction) -> bool | None:
    """Whether good / valid >= target; None if nothing valid happened."""
    if counts.valid == 0:
        return None
    return counts.good * target.denominator >= target.numerator * counts.valid


def exhausts_in_ns(budget: Budget, recent: Counts, recent_ns: int, target: Fraction) -> int | None:
    """Nanoseconds until the budget is used up if events go on as in the last `recent_ns`, rounded down.

    remaining * recent_ns / recent.bad: bad events come at the recent rate, none of the old ones leaves the window, and
    the allowance stays what it is, as it does in a full window (as many valid events leave it as come). So it is the
    earliest moment, never one that comes too late. 0 if nothing is left; None without data, without bad events, or at a
    burn rate of 1 or less, which can go on for ever.
    """
    if budget.remaining_ratio is None:
        return None
    if budget.remaining <= 0:
        return 0
    rate = burn_rate(recent, target)
    if rate is None or rate <= 1:
        return None
    return _floor(budget.remaining * recent_ns / recent.bad)


def _floor(value: Fraction) -> int:
    return value.numerator // value.denominator
