"""The binomial test against its twin, the plain sum in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otelslo import binomial
from otelslo.binomial import fewest, rejects

SURE = Fraction(99, 100)
ratios = st.one_of(
    st.fractions(0, 1, max_denominator=1000),
    st.integers(1, 10**9 - 1).map(lambda n: Fraction(n, 10**9)),
    st.sampled_from([Fraction(1, 10**9), Fraction(9, 625), Fraction(6, 1000), Fraction(1, 2), Fraction(999, 1000)]),
)
confidences = st.one_of(
    st.sampled_from([SURE, Fraction(9, 10), Fraction(999_999, 1_000_000), Fraction(501, 1000)]),
    st.integers(501, 999).map(lambda n: Fraction(n, 1000)),
)


def tail(bad: int, valid: int, ratio: Fraction) -> Fraction:
    """P(X >= bad), as it is defined."""
    terms = (math.comb(valid, k) * ratio**k * (1 - ratio) ** (valid - k) for k in range(bad, valid + 1))
    return sum(terms, Fraction(0))


def tail_of_many(bad: int, valid: int, ratio: Fraction) -> Fraction:
    """P(X >= bad) for many events: the first term exactly, the others by their ratios, cut off at a 10**-40 of it."""
    scale = 10**60
    term, total, k = scale, 0, bad
    while term > 10**20:
        total += term
        term = term * (valid - k) * ratio.numerator // ((k + 1) * (ratio.denominator - ratio.numerator))
        k += 1
    bits = 400  # of the first term
    lose = ratio.denominator - ratio.numerator
    first = (math.comb(valid, bad) * ratio.numerator**bad * lose ** (valid - bad) << bits) // ratio.denominator**valid
    return Fraction(first, 1 << bits) * Fraction(total, scale)


@st.composite
def near_the_bar(draw: st.DrawFn, most: int) -> tuple[int, int, Fraction]:
    """Counts that may or may not be chance: most of them somewhat above the mean."""
    valid, ratio = draw(st.integers(1, most)), draw(ratios)
    mean = math.floor(valid * ratio)
    spread = 4 * math.isqrt(mean + 1) + 3
    low, high = max(mean - spread, 0), min(mean + spread, valid)
    return draw(st.one_of(st.integers(low, high), st.integers(0, valid))), valid, ratio


@given(near_the_bar(most=150), confidences)
@example((1, 1, Fraction(1, 100)), SURE)  # P is 1 % exactly: rejected
@example((2, 2, Fraction(1, 10)), SURE)
@example((1, 1, Fraction(10_000_000_001, 10**12)), SURE)  # and just above it
@example((1, 10, Fraction(0)), SURE)
@example((0, 10, Fraction(0)), SURE)
@example((10, 10, Fraction(1)), SURE)
def test_it_is_the_plain_sum(counts, confidence):
    """Exactly, at equality too."""
    bad, valid, ratio = counts
    assert rejects(bad, valid, ratio, confidence) is (tail(bad, valid, ratio) <= 1 - confidence)


@pytest.mark.parametrize(("bad", "valid"), [(3, 20), (9, 300), (15, 500)])
def test_at_the_bar_itself_few_events_are_decided_exactly(bad, valid):
    """A bar that is the probability itself, and one that is just below it, where no float tells the two apart."""
    ratio = Fraction(9, 625)
    exact = tail(bad, valid, ratio)
    assert exact < Fraction(1, 2)
    assert rejects(bad, valid, ratio, 1 - exact)
    assert not rejects(bad, valid, ratio, 1 - exact * (1 - Fraction(1, 10**30)))


@pytest.mark.parametrize(("bad", "valid"), [(16, 501), (30, 1000)])
def test_at_the_bar_itself_many_events_are_taken_for_chance(bad, valid):
    """And a hundred-millionth above it are not."""
    ratio = Fraction(9, 625)
    exact = tail(bad, valid, ratio)
    assert not rejects(bad, valid, ratio, 1 - exact)
    assert rejects(bad, valid, ratio, 1 - exact * (1 + Fraction(1, 10**8)))


@given(near_the_bar(most=200))
def test_every_bound_holds_and_the_last_is_the_probability(counts):
    """Within a thousandth of the error that decisions allow for."""
    bad, valid, ratio = counts
    if bad * ratio.denominator <= valid * ratio.numerator or not 0 < ratio < 1:
        return
    exact = tail(bad, valid, ratio)
    error = Fraction(1, 10**12)
    assert Fraction(binomial.RELATIVE_ERROR) > 900 * error
    low, high = 0.0, 1.0
    for low, high in binomial._bounds(bad, valid, ratio):
        if high > 1e-290:  # below, floats have fewer digits, and no confidence asks so much
            assert Fraction(low) * (1 - error) <= exact <= Fraction(high) * (1 + error)
    assert low == high


@pytest.mark.parametrize("ratio", [Fraction(1, 1000), Fraction(9, 625), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize("valid", [501, 5_000, 100_000])
@pytest.mark.parametrize("confidence", [Fraction(9, 10), SURE, Fraction(999_999, 1_000_000)])
def test_the_bar_of_many_events(valid, ratio, confidence):
    """`fewest` is where the plain sum crosses the bar."""
    bar = fewest(valid, ratio, confidence)
    assert tail_of_many(bar, valid, ratio) <= 1 - confidence < tail_of_many(bar - 1, valid, ratio)


@pytest.mark.parametrize("ratio", [Fraction(1, 10**9), Fraction(1, 1000), Fraction(9, 625), Fraction(1, 2)])
@pytest.mark.parametrize("valid", [10**6, 10**9, 10**12])
@pytest.mark.parametrize("confidence", [Fraction(9, 10), SURE, Fraction(999_999, 1_000_000)])
def test_the_bar_of_very_many_events_lies_within_the_inequality_of_zubkov_and_serov(valid, ratio, confidence):
    """Their bounds, proved by other means, leave two neighbours for the bar of any binomial distribution."""

    def bound(k: int) -> float:
        """1 - C(k): P(X >= k + 1) <= 1 - C(k) <= P(X >= k), for k above the mean."""
        return 0.5 * math.erfc(math.sqrt(max(binomial._distance(k, valid, ratio), 0.0)))

    level, bar = float(1 - confidence), fewest(valid, ratio, confidence)
    mean = valid * ratio
    assert bar < 2 or bar - 2 <= mean or bound(bar - 2) > level * (1 - 1e-9)
    assert bound(bar) <= level * (1 + 1e-9)


@given(st.integers(1, 10**12), ratios, confidences)
def test_more_failures_are_better_evidence(valid, ratio, confidence):
    """So that there is one bar: below it nothing rejects, from it on everything does."""
    bar = fewest(valid, ratio, confidence)
    assert 1 <= bar <= valid + 1
    for bad in {bar - 1, max(bar - 3, 0), bar // 2}:
        assert not rejects(bad, valid, ratio, confidence)
    for bad in {bar, bar + 1, bar + 10}:
        assert bad > valid or rejects(bad, valid, ratio, confidence)


@given(st.integers(2, 10**9), ratios, st.data())
def test_a_failure_less_is_never_better_evidence(valid, ratio, data):
    """A failure taken out of both counts: whoever was not sure before is not sure after."""
    bad = data.draw(st.integers(1, valid))
    if not rejects(bad, valid, ratio, SURE):
        assert not rejects(bad - 1, valid - 1, ratio, SURE)


def test_quiet_services():
    """The Workbook's tier of 14.4 at 99.9 %: one failure of ten is chance, two of ten are not."""
    ratio = Fraction(144, 10_000)
    for valid, bar in ((1, 2), (2, 2), (10, 2), (20, 3), (100, 6), (1000, 25)):
        assert fewest(valid, ratio, SURE) == bar
        assert bar > valid or tail(bar, valid, ratio) <= Fraction(1, 100)
        assert tail(bar - 1, valid, ratio) > Fraction(1, 100)
    assert not rejects(1, 10, ratio, SURE)
    assert rejects(14, 20, ratio, SURE)


def test_few_bounds_are_enough():
    """At the bar itself, with a trillion events: what a decision costs does not grow with the traffic."""
    for valid in (10**3, 10**6, 10**9, 10**12):
        ratio = Fraction(9, 625)
        bar = fewest(valid, ratio, SURE)
        for bad in (bar - 1, bar):
            seen = 0
            for low, high in binomial._bounds(bad, valid, ratio):
                seen += 1
                if high <= 0.01 or low > 0.01:
                    break
            assert seen <= 40


@pytest.mark.parametrize(("bad", "valid"), [(-1, 10), (11, 10), (0, -1), (1, 2**53 + 1)])
def test_what_is_no_count_is_refused(bad, valid):
    """Loudly: whoever has such counts has lost some."""
    with pytest.raises(ValueError, match="no counts"):
        rejects(bad, valid, Fraction(1, 10), SURE)


@pytest.mark.parametrize("confidence", [Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3, 2)])
def test_what_is_no_confidence_is_refused(confidence):
    """Below one half it would say yes to what is likelier than not."""
    with pytest.raises(ValueError, match="between 1/2 and 1"):
        rejects(1, 10, Fraction(1, 10), confidence)
