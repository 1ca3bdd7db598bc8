"""The chi-square distribution and the test of two samples against scipy's."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.drift.chance import excess, homogeneity, quantile, tail

stats = pytest.importorskip("scipy.stats", reason="scipy is the twin")


@given(st.floats(0, 700), st.integers(1, 300))
def test_tail_is_scipys(statistic, degrees):
    assert tail(statistic, degrees) == pytest.approx(float(stats.chi2.sf(statistic, degrees)), rel=1e-10, abs=1e-300)


@given(st.floats(1e-12, 0.999), st.integers(1, 120))
def test_quantile_is_scipys(level, degrees):
    found = quantile(level, degrees)
    assert found == pytest.approx(float(stats.chi2.isf(level, degrees)), rel=1e-8)
    assert tail(found, degrees) <= level


def test_far_out_nothing_overflows():
    assert tail(1e9, 10) == 0
    assert tail(0, 3) == 1
    assert tail(1e-300, 1) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=40))
def test_homogeneity_is_scipys(cells):
    one, other = zip(*[cell for cell in cells if any(cell)] or [(0, 0)], strict=True)
    if not any(one) or not any(other):
        with pytest.raises(ValueError, match="one side"):
            homogeneity(one, other)
        return
    asked = {"correction": False, "lambda_": "cressie-read"}
    expected = stats.chi2_contingency([one, other], **asked).statistic if len(one) > 1 else 0
    assert homogeneity(one, other) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


@given(st.integers(0, 60), st.integers(0, 400), st.integers(60, 3_000), st.integers(400, 100_000))
def test_excess_is_fishers_exact_test(live, baseline, live_rows, baseline_rows):
    due = stats.hypergeom.sf(live - 1, live_rows + baseline_rows, live + baseline, live_rows)
    assert excess(live, live_rows, baseline, baseline_rows) == pytest.approx(float(due), rel=1e-6, abs=1e-300)


def test_excess_of_large_samples_and_of_nothing():
    assert excess(0, 100, 0, 100) == 1
    assert excess(30, 100, 0, 10_000) < 1e-55
    assert excess(1, 10**9, 0, 10**9) == pytest.approx(0.5, rel=1e-5)
    with pytest.raises(ValueError, match="11 of 10"):
        excess(11, 10, 0, 10)


def test_a_small_difference_of_large_samples_keeps_its_digits():
    """Near equality it is Pearson's, from integers."""
    one, other = (10**12 + 10**6, 10**12 - 10**6), (10**12, 10**12)
    pearson = sum(Fraction((a - e) ** 2, 2 * (a + e)) * 2 for a, e in zip(one, other, strict=True))
    assert homogeneity(one, other) == pytest.approx(float(pearson), rel=1e-5)
    assert homogeneity(other, other) == 0


@pytest.mark.parametrize("arguments", [(1.0, 0), (-1.0, 3), (float("nan"), 3), (1.0, 10**6)])
def test_no_distribution(arguments):
    with pytest.raises(ValueError, match="no chi-square"):
        tail(*arguments)


@pytest.mark.parametrize("level", [0, 1, -1, float("nan")])
def test_no_level(level):
    with pytest.raises(ValueError, match="level"):
        quantile(level, 3)
