"""What chance alone makes of counts: the chi-square distribution, and the test whether two samples are of one source.

For whole degrees of freedom the tail of the distribution is a finite sum of positive terms, so that nothing cancels;
scipy would be 140 MB for this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_DEGREES = 10_000
_POWER = 2 / 3


def tail(statistic: float, degrees: int) -> float:
    """P(X >= statistic) of a chi-square with so many degrees of freedom; relative error below 1e-11.

    ValueError unless 1 <= degrees <= 10,000 and statistic >= 0.
    """
    if not 1 <= degrees <= MOST_DEGREES or not statistic >= 0:
        raise ValueError(f"no chi-square: {statistic} with {degrees} degrees of freedom")
    half = statistic / 2
    if half == 0:
        return 1.0
    terms = [math.erfc(math.sqrt(half))] if degrees % 2 else []
    logarithm = math.log(half)
    for k in range(degrees // 2):
        order = k + 0.5 * (degrees % 2)
        terms.append(math.exp(order * logarithm - half - math.lgamma(order + 1)))
    return min(math.fsum(terms), 1.0)


def quantile(level: float, degrees: int) -> float:
    """The statistic that chance exceeds with the probability `level`. ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"a level of {level} is not between 0 and 1")
    low, high = 0.0, float(degrees)
    while tail(high, degrees) > level:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if tail(middle, degrees) > level else (low, middle)
    return high


def homogeneity(one: Sequence[int], other: Sequence[int]) -> float:
    """Cressie and Read's statistic of two samples over the same bins, none of them empty on both sides.

    It is a chi-square with a degree of freedom less than there are bins, if both are drawn from one source. Its power,
    2/3, is where that holds best with thin bins (Cressie and Read, Multinomial Goodness-of-Fit Tests, 1984): Pearson's
    statistic is too large far out in the tail, where each of twenty features is judged, and the likelihood ratio is
    everywhere. ValueError for a side without any event.
    """
    n, m = sum(one), sum(other)
    if not n or not m:
        raise ValueError("nothing was counted on one side")
    terms = [
        part
        for a, e in zip(one, other, strict=True)
        for part in (_part(a, (a + e) * n, n + m), _part(e, (a + e) * m, n + m))
    ]
    return max(math.fsum(terms), 0.0) * 2 / (_POWER * (_POWER + 1))


def excess(live: int, live_rows: int, baseline: int, baseline_rows: int) -> float:
    """How likely chance puts `live` or more of so few events on the live side: Fisher's exact test, one-sided.

    For bins too thin for a chi-square. Relative error below 1e-5 for up to 1e9 rows. ValueError for more events than
    rows.
    """
    if not 0 <= live <= live_rows or not 0 <= baseline <= baseline_rows:
        raise ValueError(f"{live} of {live_rows} and {baseline} of {baseline_rows} rows")
    events, rows = live + baseline, live_rows + baseline_rows
    whole = _log_choose(rows, events)
    terms = (
        math.exp(_log_choose(live_rows, k) + _log_choose(baseline_rows, events - k) - whole)
        for k in range(live, min(events, live_rows) + 1)
        if events - k <= baseline_rows
    )
    return min(math.fsum(terms), 1.0)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _part(seen: int, due: int, of: int) -> float:
    """What one bin of one side adds, where `due / of` events are expected; never negative."""
    expected = due / of
    if not seen:
        return _POWER * expected
    apart = (seen * of - due) / due  # exact up to the division, so that small differences keep their digits
    return seen * math.expm1(_POWER * math.log1p(apart)) - _POWER * expected * apart
