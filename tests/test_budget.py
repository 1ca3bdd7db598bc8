"""The error budget against plain arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.budget import budget, exhausts_in_ns, met
from otelslo.counts import Counts
from otelslo.window import DAY_NS, HOUR_NS, SECOND_NS

NINES = Fraction(999, 1000)
targets = st.fractions(0, 1, max_denominator=10**6).filter(lambda target: 0 < target < 1)
counts = st.builds(Counts, st.integers(0, 10**12), st.integers(0, 10**6), st.integers(0, 10**6))


def test_a_month_at_three_nines():
    """43 min 12 s of 30 days, and one event in a thousand."""
    result = budget(Counts(9995, 5), NINES, 30 * DAY_NS)
    assert result.allowed == 10
    assert result.spent == 5
    assert result.remaining == 5
    assert result.remaining_ratio == Fraction(1, 2)
    assert result.allowed_time_ns == 2592 * SECOND_NS
    assert result.remaining_time_ns == 1296 * SECOND_NS


def test_without_traffic_nothing_rests_on_it():
    """The time that is allowed is known, the rest is not."""
    result = budget(Counts(), NINES, 30 * DAY_NS)
    assert (result.allowed, result.spent, result.remaining, result.remaining_ratio) == (0, 0, 0, None)
    assert (result.allowed_time_ns, result.remaining_time_ns) == (2592 * SECOND_NS, None)
    assert met(Counts(excluded=3), NINES) is None


@pytest.mark.parametrize("target", [Fraction(n, 1000) for n in (900, 950, 990, 995, 999)])
@pytest.mark.parametrize("valid", [1, 999, 1000, 1001, 12_345, 10**7])
def test_the_last_event_that_may_fail(target, valid):
    """`allowed_events` failures meet the target, one more does not."""
    allowed = budget(Counts(valid), target, DAY_NS).allowed_events
    assert allowed == valid * (target.denominator - target.numerator) // target.denominator
    assert met(Counts(valid - allowed, allowed), target) is True
    assert met(Counts(valid - allowed - 1, allowed + 1), target) is False


@given(counts, targets, st.integers(60 * SECOND_NS, 400 * DAY_NS))
def test_every_field_equals_plain_fractions(counts, target, window_ns):
    """The budget and the verdict, by the textbook."""
    result = budget(counts, target, window_ns)
    assert result.allowed == (1 - target) * counts.valid
    assert result.remaining == result.allowed - counts.bad
    assert result.allowed_time_ns == (1 - target) * window_ns // 1
    if counts.valid:
        assert met(counts, target) is (Fraction(counts.good, counts.valid) >= target)
        assert met(counts, target) is (result.remaining >= 0)
        assert result.remaining_time_ns == result.remaining_ratio * (1 - target) * window_ns // 1


def test_exhaustion_at_the_recent_rate():
    """500 left and 100 an hour: five hours."""
    left = budget(Counts(999_500, 500), NINES, 30 * DAY_NS)
    assert exhausts_in_ns(left, Counts(900, 100), HOUR_NS, NINES) == 5 * HOUR_NS


@pytest.mark.parametrize(
    ("counts", "recent", "expected"),
    [
        (Counts(), Counts(), None),
        (Counts(1000, 0), Counts(), None),
        (Counts(1000, 0), Counts(999, 1), None),
        (Counts(999, 1), Counts(), 0),
        (Counts(0, 5), Counts(0, 5), 0),
    ],
)
def test_exhaustion_at_its_edges(counts, recent, expected):
    """None without data or at a burn rate of 1; 0 once nothing is left."""
    assert exhausts_in_ns(budget(counts, NINES, DAY_NS), recent, HOUR_NS, NINES) == expected


@given(counts, counts, targets)
def test_a_forecast_is_never_late_in_a_full_window(counts, recent, target):
    """One more interval than predicted, and the bad events exceed what is left."""
    left = budget(counts, target, 30 * DAY_NS)
    in_ns = exhausts_in_ns(left, recent, HOUR_NS, target)
    if in_ns:
        assert Fraction(recent.bad, HOUR_NS) * in_ns <= left.remaining < Fraction(recent.bad, HOUR_NS) * (in_ns + 1)
