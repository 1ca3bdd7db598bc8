"""How fast an error budget is being spent: at 1 it lasts exactly the window, at 10 a tenth of it."""

from __future__ import annotations

from fractions import Fraction

from otelslo.counts import Counts
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS

BURN_WINDOWS: tuple[tuple[str, int], ...] = (
    ("5m", 5 * MINUTE_NS),
    ("30m", 30 * MINUTE_NS),
    ("1h", HOUR_NS),
    ("2h", 2 * HOUR_NS),
    ("6h", 6 * HOUR_NS),
    ("1d", DAY_NS),
    ("3d", 3 * DAY_NS),
)


_NOTHING = Fraction(0)


def burn_rate(counts: Counts, target: Fraction) -> Fraction | None:
    """(bad / valid) / (1 - target), exactly; None if nothing valid happened."""
    if counts.valid == 0:
        return None
    if counts.bad == 0:
        return _NOTHING
    # One fraction made, not three: the leader asks for thousands.
    return Fraction(counts.bad * target.denominator, counts.valid * (target.denominator - target.numerator))
