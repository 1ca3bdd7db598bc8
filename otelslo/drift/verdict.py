"""Whether features have drifted, from counts alone: two conditions, and an answer for too little data.

A feature has drifted if its divergence, less what chance adds to it on average, is above the limit, and if its counts
differ from the baseline's by more than chance allows: by a chi-square test of two samples, whose p-values are
corrected by Holm's method for the number of features that were judged together. So the limit says what matters, and
the test what is known. Too little data is said as such: where fewer rows came than `LEAST_ROWS`, or so few that a
divergence at the limit could not be told from chance, nothing is called steady; what is plainly drifted still is.

Bins too thin for that test are joined first, by what both sides hold together (Cochran's rule: five events expected on
either side): with their neighbours if those are thin too, all others into a rest. A rest that is still thin is judged
by Fisher's exact test instead, and the smaller of the two p-values counts twice. Only a rest with more than chance puts
there is a bin of the divergence; any other goes to its last bin. So a lone outlier neither makes a drift nor hides one,
and a new value is seen, however little it weighs beside a large baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from otelslo.drift.chance import excess, homogeneity, quantile, tail
from otelslo.drift.divergence import Measure

DRIFTED, STEADY, NOT_ENOUGH_DATA = "drifted", "steady", "not_enough_data"
LEAST_ROWS = 100
LEAST_EXPECTED = 5
FALSE_ALARM = Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class Pair:
    """One feature's counts, bin by bin: the baseline's and what came."""

    baseline: tuple[int, ...]
    live: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.baseline) != len(self.live):
            raise ValueError(f"{len(self.baseline)} and {len(self.live)} bins cannot be compared")
        if min((*self.baseline, *self.live), default=0) < 0:
            raise ValueError("a count is negative")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is said of one feature, and all that it rests on. `value`, `bias` and `limit` are in the measure's unit.

    `bins` are those left after joining. `value` is the plain divergence on them, `corrected` less its `bias`. `p_value`
    is compared with `level`, Holm's. None where there is nothing to compute. `rows_needed` is how many rows it takes to
    tell a divergence at the limit from chance; None if no number does, since the baseline is too small.
    """

    state: str
    reason: str
    live_rows: int
    baseline_rows: int
    limit: Fraction
    bins: int = 0
    value: float | None = None
    bias: float | None = None
    p_value: float | None = None
    level: float | None = None
    rows_needed: int | None = None

    @property
    def corrected(self) -> float | None:
        """The divergence without what chance adds to it on average; 0 if that is more."""
        return None if self.value is None or self.bias is None else max(self.value - self.bias, 0.0)


def judge(
    pairs: Mapping[str, Pair], measure: Measure, limit: Fraction, *, false_alarm: Fraction = FALSE_ALARM
) -> dict[str, Finding]:
    """A finding for each feature, by name.

    Args:
        pairs: all features that are judged together: the more, the stronger must be what is seen in each.
        limit: the divergence that is still right, in the measure's unit.
        false_alarm: how often any feature at all may be called drifted where none is.

    Raises:
        ValueError: a limit that is not above 0, or a false-alarm rate that is not between 0 and 1/2.
    """
    if limit <= 0 or not 0 < false_alarm < Fraction(1, 2):
        raise ValueError(f"no limit of {limit} above 0, or no false-alarm rate of {false_alarm} between 0 and 1/2")
    joined = {name: join(pair) for name, pair in pairs.items()}
    seen = {name: one for name, one in joined.items() if min(sum(one.bins.live), sum(one.bins.baseline)) >= LEAST_ROWS}
    p_values = {name: one.p_value for name, one in seen.items()}
    levels = _holm(p_values, float(false_alarm))
    strictest = float(false_alarm) / max(len(seen), 1)
    return {
        name: _judged(seen[name].told_by(levels[name]), measure, limit, p_values[name], levels[name], strictest)
        if name in seen
        else _too_few(pair, limit)
        for name, pair in pairs.items()
    }


@dataclass(frozen=True, slots=True)
class Joined:
    """A pair whose thin bins are joined: `bins` are thick, the last one with the thin rest, of which `rest` says how
    much it is (baseline, live)."""

    bins: Pair
    rest: tuple[int, int] = (0, 0)

    @property
    def p_value(self) -> float:
        """Of both tests together, where there is a rest with live rows."""
        of_bins = tail(homogeneity(self.bins.live, self.bins.baseline), _degrees(self.bins))
        return min(2 * min(of_bins, self._of_rest()), 1.0) if self.rest[1] else of_bins

    def told_by(self, level: float) -> Pair:
        """The bins of the divergence: the rest is one of them if it holds more than chance puts there."""
        (e, a), bins = self.rest, self.bins
        if not a or 2 * self._of_rest() > level:
            return bins
        baseline, live = (*bins.baseline[:-1], bins.baseline[-1] - e, e), (*bins.live[:-1], bins.live[-1] - a, a)
        return Pair(baseline, live)

    def _of_rest(self) -> float:
        e, a = self.rest
        return excess(a, sum(self.bins.live), e, sum(self.bins.baseline))


def join(pair: Pair) -> Joined:
    """Join the thin bins of a pair: runs of them to bins that are not, what is left of each run to the rest.

    Thin is a bin of which the smaller side expects fewer than `LEAST_EXPECTED`, if both sides are of one source.
    """
    smaller, whole = min(sum(pair.live), sum(pair.baseline)), sum(pair.live) + sum(pair.baseline)
    bins: list[tuple[int, int]] = []
    run = rest = (0, 0)
    for one in zip(pair.baseline, pair.live, strict=True):
        if _is_thin(one, smaller, whole):
            run = (run[0] + one[0], run[1] + one[1])
            one = run
        if not _is_thin(one, smaller, whole):
            left = (0, 0) if one is run else run
            bins.append(one)
            rest, run = (rest[0] + left[0], rest[1] + left[1]), (0, 0)
    rest = (rest[0] + run[0], rest[1] + run[1])
    if not _is_thin(rest, smaller, whole):
        bins.append(rest)
        rest = (0, 0)
    if not bins:
        return Joined(Pair((), ()))
    bins[-1] = (bins[-1][0] + rest[0], bins[-1][1] + rest[1])
    return Joined(Pair(tuple(e for e, _ in bins), tuple(a for _, a in bins)), rest)


def _is_thin(one: tuple[int, int], smaller: int, whole: int) -> bool:
    return not sum(one) or sum(one) * smaller < LEAST_EXPECTED * whole


def _holm(p_values: Mapping[str, float], level: float) -> dict[str, float]:
    """The level each p-value must not exceed: level / k for the smallest of k, then level / (k - 1) while all hold."""
    levels: dict[str, float] = {}
    left, held = len(p_values), None
    for name in sorted(p_values, key=lambda one: p_values[one]):
        levels[name] = held if held is not None else level / left
        if held is None and p_values[name] > levels[name]:
            held = levels[name]  # from here on nothing is rejected
        left -= 1
    return levels


def _judged(pair: Pair, measure: Measure, limit: Fraction, p_value: float, level: float, strictest: float) -> Finding:
    live_rows, baseline_rows, degrees = sum(pair.live), sum(pair.baseline), _degrees(pair)
    value = measure.value(pair.baseline, pair.live)
    bias = measure.of_chi_square(len(pair.live) - 1, baseline_rows, live_rows)
    needed = _rows_needed(measure, limit, quantile(strictest, degrees) - degrees, baseline_rows)
    over, beyond_chance = value - bias > limit, p_value <= level
    if over and beyond_chance:
        state, reason = DRIFTED, "above the limit, and beyond chance"
    elif needed is None:
        state, reason = NOT_ENOUGH_DATA, "the baseline has too few rows to tell a divergence at the limit from chance"
    elif live_rows < needed:
        state, reason = NOT_ENOUGH_DATA, f"a divergence at the limit is told from chance from {needed} rows on"
    else:
        state, reason = STEADY, "above the limit, but within chance" if over else "within the limit"
    return Finding(
        state, reason, live_rows, baseline_rows, limit, len(pair.live), value, bias, p_value, level, rows_needed=needed
    )


def _rows_needed(measure: Measure, limit: Fraction, excess: float, baseline_rows: int) -> int | None:
    """Live rows at which chance adds no more than `limit`, where it makes the chi-square `excess` above its mean."""
    per_row = measure.of_chi_square(excess, 2, 2)  # 1/2 + 1/2: the value at 1/n + 1/m = 1
    room = float(limit) / per_row - 1 / baseline_rows
    return max(math.ceil(1 / room), LEAST_ROWS) if room > 1e-15 else None


def _degrees(pair: Pair) -> int:
    """Of freedom; 1 for a lone bin too, whose statistic is 0: whatever lies outside of it is too thin to see."""
    return max(len(pair.live) - 1, 1)


def _too_few(pair: Pair, limit: Fraction) -> Finding:
    live_rows, baseline_rows = sum(pair.live), sum(pair.baseline)
    where = "in the baseline" if live_rows >= LEAST_ROWS else "came"
    return Finding(NOT_ENOUGH_DATA, f"fewer than {LEAST_ROWS} rows {where}", live_rows, baseline_rows, limit)
