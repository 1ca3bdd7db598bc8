"""The counts that everyone trades in."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from otelslo.counts import Counts

numbers = st.integers(0, 2**62)
counts = st.builds(Counts, numbers, numbers, numbers)


def test_an_empty_window_has_no_sli():
    """No data is None, neither 100 % nor NaN."""
    assert Counts().sli is None
    assert Counts(excluded=5).sli is None
    assert Counts().excluded_ratio is None


def test_excluded_events_never_touch_the_ratio():
    """They show in their own ratio only."""
    assert Counts(999, 1, 10**9).sli == Fraction(999, 1000)
    assert Counts(1, 1, 2).excluded_ratio == Fraction(1, 2)


@given(counts, counts)
def test_a_window_is_a_difference_of_totals(earlier, window):
    """Adding and subtracting are exact inverses at any size."""
    assert (earlier + window) - earlier == window
    assert (earlier + window).valid == earlier.valid + window.valid
