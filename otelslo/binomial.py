"""An exact one-sided binomial test: can so many failures be chance, if the true failure ratio is no more than this?

The question is whether P(X >= bad), with X ~ Binomial(valid, ratio), is at most 1 - confidence. Bounds answer it
of that probability, each a rigorous one, that get closer until the bar lies outside of them: first the median and
Chernoff's bound, then the convergents of a continued fraction. Floats carry the bounds, with a relative error far
below 1e-9 for up to 10**12 events; if the bar is nearer than that, up to 500 events are decided in integers, and more
are not rejected: a difference of a billionth in a probability then decides for chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

MOST_VALID = 2**53
EXACT_VALID = 500
RELATIVE_ERROR = 1e-9

_SERIES_BELOW = 0.125
_STIRLING_FROM = 16
_MOST_STEPS = 2_000
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def rejects(bad: int, valid: int, ratio: Fraction, confidence: Fraction) -> bool:
    """Whether `bad` of `valid` is too many for a failure ratio of `ratio` or less, at this confidence.

    True if P(X >= bad | valid, ratio) <= 1 - confidence. ValueError unless 0 <= bad <= valid <= 2**53 and
    1/2 < confidence < 1.
    """
    if not 0 <= bad <= valid <= MOST_VALID:
        raise ValueError(f"{bad} of {valid}: no counts of events")
    if not Fraction(1, 2) < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 1/2 and 1")
    if bad * ratio.denominator <= valid * ratio.numerator or bad == 0:
        return False  # the median is not below the mean rounded down, so P >= 1/2
    if ratio <= 0:
        return True
    level = float(1 - confidence)
    for low, high in _bounds(bad, valid, ratio):
        if high * (1 + RELATIVE_ERROR) <= level:
            return True
        if low * (1 - RELATIVE_ERROR) > level:
            return False
    return valid <= EXACT_VALID and _exactly_rejects(bad, valid, ratio, confidence)


def fewest(valid: int, ratio: Fraction, confidence: Fraction) -> int:
    """The smallest `bad` that `rejects` says yes to; `valid` + 1 if even all failing may be chance."""
    low, high = 0, valid + 1  # never rejected, taken as rejected
    while high - low > 1:
        middle = (low + high) // 2
        if rejects(middle, valid, ratio, confidence):
            high = middle
        else:
            low = middle
    return high


def _bounds(bad: int, valid: int, ratio: Fraction) -> Iterator[tuple[float, float]]:
    """Ever closer (low, high) with low <= P(X >= bad) <= high, for bad > valid * ratio > 0."""
    rest = valid - bad
    if rest == 0:
        certain = ratio.numerator / ratio.denominator
        log_ratio = math.log(certain) if certain < 0.5 else math.log1p(float(ratio - 1))
        yield (math.exp(valid * log_ratio),) * 2
        return
    highest = math.exp(-_distance(bad, valid, ratio))  # Chernoff's bound
    yield 0.0, highest
    corrections = _stirling_error(valid) - _stirling_error(bad) - _stirling_error(rest)
    point = highest * math.exp(corrections) * math.sqrt(valid / bad / rest / (2 * math.pi))  # P(X = bad)
    yield point, highest
    for low, high in _tail_over_point(bad, valid, ratio):
        yield point * low, point * high


def _tail_over_point(bad: int, valid: int, ratio: Fraction) -> Iterator[tuple[float, float]]:
    """Bounds of P(X >= bad) / P(X = bad) = a0 / (b0 + a1 / (b1 + a2 / (b2 + ...))).

    This is the even part of the continued fraction of the incomplete beta function (DLMF 8.17.22), which ends after
    b[valid - bad]. Every a and b is positive: so convergents lie in turn above and below the value, and no digits
    cancel.
    """
    numerator, denominator = ratio.numerator, ratio.denominator
    p, trials = numerator / denominator, valid + 1
    over_mean = (bad * denominator - trials * numerator) / denominator
    a = bad * (denominator - numerator) / denominator
    above, above_before, below_before = 0.0, 1.0, 0.0  # Wallis's recurrence, scaled so that `below` is 1
    low, high = 0.0, math.inf
    for m in range(min(valid - bad + 1, _MOST_STEPS)):
        inner, outer = max(bad + 2 * m - 1, 1), bad + 2 * m + 1
        if m:
            a = m * (trials - bad - m) * p / inner * ((bad + m - 1) * (valid + m) * p / inner)
        b = over_mean + 2 * m + p * (m * (trials - bad - m) / inner + (trials * (m + 1) - m * (bad + m)) / outer)
        below = b + a * below_before
        above, above_before, below_before = (b * above + a * above_before) / below, above / below, 1 / below
        low, high = (max(low, above), high) if m % 2 else (low, min(high, above))
        if m == valid - bad:
            yield above, above
        else:
            yield low, high


def _distance(bad: int, valid: int, ratio: Fraction) -> float:
    """valid * the Kullback-Leibler divergence of bad / valid from ratio: -log of Chernoff's bound."""
    numerator, denominator = ratio.numerator, ratio.denominator
    over = (bad * denominator - valid * numerator) / denominator
    expected_bad, expected_good = (valid * part / denominator for part in (numerator, denominator - numerator))
    return _deviance(bad, expected_bad, over) + _deviance(valid - bad, expected_good, -over)


def _deviance(seen: int, expected: float, over: float) -> float:
    """seen * log(seen / expected) - over, where over = seen - expected is known better than that difference."""
    step = over / expected
    if abs(step) >= _SERIES_BELOW:
        return seen * math.log(seen / expected) - over
    total, power, order = 0.0, step * step, 2
    while abs(power) > 1e-18 * total:
        total += power / (order * (order - 1))
        power, order = -power * step, order + 1
    return expected * total


def _stirling_error(n: int) -> float:
    """log(n!) - log(sqrt(2 pi n) (n / e)**n), for n >= 1."""
    if n < _STIRLING_FROM:
        return math.log(math.factorial(n)) - (n + 0.5) * math.log(n) + n - _HALF_LOG_2PI
    square = float(n) * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / n


def _exactly_rejects(bad: int, valid: int, ratio: Fraction, confidence: Fraction) -> bool:
    """P(X >= bad) <= 1 - confidence in integers: every term over the common denominator ratio.denominator ** valid."""
    win, lose = ratio.numerator, ratio.denominator - ratio.numerator
    term: int = math.comb(valid, bad) * win**bad * lose ** (valid - bad)
    tail, level = term, 1 - confidence
    for k in range(bad, valid):
        term = term * (valid - k) * win // ((k + 1) * lose)
        tail += term
    everything: int = ratio.denominator**valid
    return tail * level.denominator <= level.numerator * everything
