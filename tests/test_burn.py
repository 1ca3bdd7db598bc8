"""Burn rates."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from otelslo.budget import met
from otelslo.burn import BURN_WINDOWS, burn_rate
from otelslo.counts import Counts
from otelslo.window import parse_duration

NINES = Fraction(999, 1000)


def test_the_scale_of_burn_rates():
    """0 without failures, 1 at the target exactly, 1000 when everything fails at three nines."""
    assert burn_rate(Counts(1000, 0), NINES) == 0
    assert burn_rate(Counts(999, 1), NINES) == 1
    assert burn_rate(Counts(9856, 144), NINES) == Fraction(144, 10)
    assert burn_rate(Counts(0, 7), NINES) == 1000
    assert burn_rate(Counts(excluded=9), NINES) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 9999).map(lambda n: Fraction(n, 10_000)))
def test_a_burn_rate_above_one_is_a_missed_target(good, bad, target):
    """Exactly at equality too."""
    counts = Counts(good, bad)
    rate = burn_rate(counts, target)
    assert met(counts, target) is (None if rate is None else rate <= 1)


def test_window_names_are_their_lengths():
    """The keys of `burn` in the JSON mean what they say."""
    assert [parse_duration(name) for name, _ in BURN_WINDOWS] == [size_ns for _, size_ns in BURN_WINDOWS]
