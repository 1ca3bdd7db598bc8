"""The corrected rate: exact where it can be, an interval that covers, and a refusal where it has no meaning."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.errors import BadValue
from otelslo.quality.judged_rate import FEWEST, Audit, judged_rate

GOOD_AUDIT = Audit(tp=45, fn=5, tn=190, fp=10)
counts = st.integers(0, 300)


def test_the_rate_by_hand():
    """Sensitivity 0.9, specificity 0.95: of 8 % observed, (0.08 - 0.05) / 0.85 are."""
    found = judged_rate(80, 1000, GOOD_AUDIT)
    assert found.observed == Fraction(8, 100)
    assert found.corrected == Fraction(3, 85)
    assert found.low < found.corrected < found.high
    assert (found.clipped, found.refused) == (True, "")  # the lower limit would be below 0
    assert found.low == 0


@given(counts, st.integers(1, 300), counts, counts, counts, counts)
def test_a_rate_is_a_share_in_its_interval_or_refused(flagged, judged, tp, fn, tn, fp):
    found = judged_rate(min(flagged, judged), judged, Audit(tp, fn, tn, fp))
    assert found.observed == Fraction(min(flagged, judged), judged)
    if found.refused:
        assert (found.corrected, found.low, found.high, found.clipped) == (None, None, None, False)
        return
    assert found.low < 1
    assert found.high > 0
    assert tp + fn >= FEWEST
    assert tn + fp >= FEWEST
    assert Fraction(tp, tp + fn) + Fraction(tn, tn + fp) > 1
    assert 0 <= found.corrected <= 1
    assert 0 <= found.low <= found.corrected <= found.high <= 1


def test_a_judge_without_errors_leaves_the_rate_as_it_is():
    """And a huge audit leaves the interval of the sample alone, that of Agresti and Coull."""
    huge = Audit(10**9, 0, 10**9, 0)
    found = judged_rate(80, 1000, huge)
    assert found.corrected == found.observed
    z, n = 1.959963984540054, 1000
    middle = (80 + z * z / 2) / (n + z * z)
    half = z * math.sqrt(middle * (1 - middle) / (n + z * z))
    assert (found.low, found.high) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert not found.clipped


def test_a_smaller_audit_says_less():
    widths = []
    for times in (1, 4, 16, 64):
        audit = Audit(45 * times, 5 * times, 190 * times, 10 * times)
        found = judged_rate(2000, 10_000, audit)
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("confidence", [Fraction(8, 10), Fraction(95, 100), Fraction(99, 100)])
@pytest.mark.parametrize("truth", [0.0, 0.01, 0.05, 0.2, 0.6])
@pytest.mark.parametrize(
    ("judge", "sizes"), [((0.9, 0.95), (50, 150)), ((0.7, 0.98), (20, 180)), ((0.95, 0.8), (200, 200))]
)
def test_the_interval_covers(truth, judge, sizes, confidence):
    """In simulated audits and samples, with a fixed seed: at the stated confidence, less three standard errors."""
    random = np.random.default_rng(20261128)
    (sensitivity, specificity), (ill, well), runs = judge, sizes, 600
    flag_rate = truth * sensitivity + (1 - truth) * (1 - specificity)
    covered = said = 0
    draws = zip(
        random.binomial(ill, sensitivity, runs).tolist(),
        random.binomial(well, specificity, runs).tolist(),
        random.binomial(1000, flag_rate, runs).tolist(),
        strict=True,
    )
    for tp, tn, flagged in draws:
        found = judged_rate(flagged, 1000, Audit(tp, ill - tp, tn, well - tn), confidence=confidence)
        if not found.refused:
            said += 1
            covered += found.low <= truth <= found.high
    bar = float(confidence)
    assert said > runs / 2
    assert covered / said >= bar - 3 * math.sqrt(bar * (1 - bar) / said)


@pytest.mark.parametrize(
    ("flagged", "judged", "audit", "why"),
    [
        (0, 0, GOOD_AUDIT, "nothing was judged"),
        (5, 100, Audit(9, 0, 90, 1), "the audit has 9 that people call hallucinated"),
        (5, 100, Audit(0, 0, 90, 1), "the audit has 0 that people call hallucinated"),
        (5, 100, Audit(90, 1, 5, 1), "the audit has 6 that people call supported"),
        (5, 100, Audit(10, 10, 10, 10), "no better than a coin: its sensitivity and specificity add up to 100%"),
        (5, 100, Audit(5, 15, 10, 10), "add up to 75%, where 100% says nothing"),
        (5, 100, Audit(7, 5, 7, 5), "too small to tell the judge from a coin"),
    ],
)
def test_a_rate_without_a_meaning_is_refused(flagged, judged, audit, why):
    found = judged_rate(flagged, judged, audit)
    assert why in found.refused
    assert found.corrected is None


def test_what_lies_outside_is_cut_and_said():
    """Fewer flagged than the judge's false alarms alone would be: 0, not less."""
    found = judged_rate(40, 1000, GOOD_AUDIT)
    assert (found.corrected, found.low, found.clipped) == (0, 0, True)
    assert found.high > 0
    every = judged_rate(920, 1000, GOOD_AUDIT)
    assert (every.corrected, every.high, every.clipped) == (1, 1, True)
    assert every.low < 1


@pytest.mark.parametrize(
    ("flagged", "audit", "why"),
    [
        (10, GOOD_AUDIT, "fewer are flagged than would be by false alarms alone"),
        (1000, Audit(400, 600, 1000, 0), "more are flagged than would be if all were hallucinated"),
    ],
)
def test_a_sample_that_contradicts_the_audit_is_refused(flagged, audit, why):
    """Rather than a rate of surely 0 or 1."""
    found = judged_rate(flagged, 1000, audit)
    assert why in found.refused
    assert found.high is None


@pytest.mark.parametrize(
    "arguments",
    [(-1, 10), (11, 10), (True, 10), (1.0, 10), (1, "10")],
    ids=["negative", "more", "bool", "float", "text"],
)
def test_what_is_no_count_is_refused(arguments):
    with pytest.raises(BadValue, match=r"is no count|flagged of"):
        judged_rate(*arguments, GOOD_AUDIT)
    with pytest.raises(BadValue, match="fn of -1 is no count"):
        Audit(1, -1, 1, 1)
    with pytest.raises(BadValue, match="a confidence of 1"):
        judged_rate(1, 10, GOOD_AUDIT, confidence=1)
