"""Steps of a load profile and what follows from them, by counts and times alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.capacity import Step, Verdict, answer, highest, in_words
from otelslo.counts import Counts
from otelslo.throughput import Throughput
from otelslo.window import SECOND_NS

PROMISE = Throughput(Fraction(1000), Fraction(99, 100))


def step(rate, good, bad=0, shed=0, *, span_s=0, tolerance=Fraction(5, 100), code=0):
    """Ten seconds of it."""
    events = Counts(good, bad + shed, 3)
    return Step(Fraction(rate), 10 * SECOND_NS, span_s * SECOND_NS, events, shed, PROMISE, tolerance, code)


HELD, FAILED, WEAK, NOTHING = step(100, 1000), step(200, 900, 1100), step(400, 500), step(800, 0)


@pytest.mark.parametrize(
    ("one", "expected", "text"),
    [
        (HELD, Verdict.HELD, ""),
        (step(100, 990, 10), Verdict.HELD, ""),  # exactly 99 %
        (step(100, 989, 11), Verdict.FAILED, "98.90% in time, 99% are promised"),
        (step(100, 950), Verdict.HELD, ""),  # just within the tolerance
        (step(100, 949), Verdict.WEAK, "only 94.90/s came: the tool is too weak or waits for answers, or the"),
        (step(100, 949, tolerance=Fraction(0)), Verdict.WEAK, "only 94.90/s came"),
        (step(100, 10, 1), Verdict.FAILED, "90.90% in time"),  # missed at a load that was not even reached
        (step(100, 999, shed=1), Verdict.FAILED, "1 were shed"),
        (step(100, 1000, shed=1), Verdict.HELD, "1 were shed, and yet enough were answered well"),
        (step(100, 1000, 500), Verdict.HELD, "66.66% in time, 99% are promised, and yet enough"),
        (step(100, 999, 500), Verdict.FAILED, "66.64% in time"),
        (step(100, 0, shed=7), Verdict.FAILED, "7 were shed"),
        (step(100, 1000, span_s=20), Verdict.WEAK, "only 50/s came"),  # as many, in twice the time
        (step(100, 1000, span_s=3), Verdict.HELD, ""),
        (NOTHING, Verdict.NOTHING, "no request of the objective came"),
    ],
)
def test_a_step(one, expected, text):
    assert one.verdict is expected
    assert one.text.startswith(text)
    assert bool(one.text) is bool(text)


@given(
    good=st.integers(0, 300),
    bad=st.integers(0, 300),
    shed=st.integers(0, 3),
    rate=st.fractions(Fraction(1, 10), 40, max_denominator=60),
)
def test_without_tolerance_a_step_is_a_slice(good, bad, shed, rate):
    """The same rule, with the step's rate as promise; idle says nothing."""
    one = Step(rate, 10 * SECOND_NS, 0, Counts(good, bad + shed), shed, PROMISE)
    units = Throughput(rate, PROMISE.share).of(Counts(good, bad + shed), shed, 10 * SECOND_NS)
    verdict = {(1, 0): Verdict.HELD, (0, 1): Verdict.FAILED}.get((units.good, units.bad))
    assert one.verdict in ((Verdict.WEAK, Verdict.NOTHING) if verdict is None else (verdict,))


@pytest.mark.parametrize(
    ("steps", "at_least", "found", "code", "text"),
    [
        ([HELD], None, 100, 0, "100/s held"),
        ([HELD, FAILED], None, 100, 0, "100/s held, 200/s did not"),
        ([HELD, FAILED], 100, 100, 0, "100/s held, 200/s did not; at least 100/s was asked for"),
        ([HELD, FAILED], 150, 100, 1, "100/s held, 200/s did not; 150/s was not reached"),
        ([HELD, WEAK], 300, 100, 3, "100/s held; 300/s is not known to hold"),
        ([FAILED], None, None, 1, "no rate was seen to hold, 200/s did not"),
        ([FAILED, step(300, 3000)], 300, None, 1, "no rate was seen to hold, 200/s did not; 300/s was not reached"),
        ([WEAK, NOTHING], None, None, 3, "no rate was seen to hold"),
        ([], 5, None, 3, "no rate was seen to hold; 5/s is not known to hold"),
        ([WEAK, step(800, 8000)], 800, 800, 0, "800/s held; at least 800/s was asked for"),
    ],
)
def test_what_follows(steps, at_least, found, code, text):
    """A rate above one that failed is none that held."""
    at_least = None if at_least is None else Fraction(at_least)
    assert (highest(steps), answer(steps, at_least), in_words(steps, at_least)) == (found, code, text)


def test_as_json():
    assert step(100, 900, 50, 50, code=None).to_json() == {
        "rate": 100.0,
        "verdict": "failed",
        "text": "50 were shed",
        "offered": 1000,
        "good": 900,
        "bad": 100,
        "shed": 50,
        "excluded": 3,
        "offered_per_s": 100.0,
        "in_time": 900 / 950,
        "seconds": 10.0,
        "tool_exit_code": None,
    }
