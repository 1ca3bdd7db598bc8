"""Durations, targets and ratios as people write and read them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.errors import BadValue
from otelslo.window import (
    DAY_NS,
    HOUR_NS,
    MINUTE_NS,
    SECOND_NS,
    format_duration,
    format_limit,
    format_ratio,
    format_target,
    parse_duration,
    parse_positive_duration,
    parse_target,
    parse_window,
    readable_duration,
)

targets = st.integers(1, 10**7 - 1).map(lambda n: Fraction(n, 10**7))
ratios = st.fractions(0, 1, max_denominator=10**15)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("30d", 30 * DAY_NS),
        ("4w", 28 * DAY_NS),
        ("5m", 5 * MINUTE_NS),
        ("5min", 5 * MINUTE_NS),
        ("1h30m", HOUR_NS + 30 * MINUTE_NS),
        ("1h 30m", HOUR_NS + 30 * MINUTE_NS),
        ("200ms", 200_000_000),
        ("1.5s", 1_500_000_000),
        ("0.1s", 100_000_000),
        ("7us", 7_000),
        ("0s", 0),
        (timedelta(days=1, microseconds=1), DAY_NS + 1_000),
    ],
)
def test_durations_are_read_exactly(text, duration_ns):
    """Every unit, and combinations of them."""
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1M", "calendar"),
        ("month", "calendar"),
        ("1month", "calendar"),
        ("1y", "calendar"),
        ("30", "a number and a unit"),
        ("", "a number and a unit"),
        ("1:30", "a number and a unit"),
        ("1,5s", "Use a point"),
        ("-5m", "negative"),
        ("30D", "Did you mean 'd'"),
        ("5 parsecs", "unknown unit"),
        ("30m1h", "out of order"),
        ("1h1h", "out of order"),
        ("0.5ns", "finer"),
        ("٣d", "a number and a unit"),
        ("9" * 60 + "d", "292 years"),
        ("1" * 100 + "s", "a number and a unit"),
        (30, "a number and a unit"),
        (True, "a number and a unit"),
        (None, "a number and a unit"),
        (timedelta(seconds=-1), "negative"),
    ],
)
def test_bad_durations_say_what_would_be_right(text, says):
    """Each refusal names its remedy."""
    with pytest.raises(BadValue, match=says):
        parse_duration(text)


@given(st.integers(0, 2**63 - 1))
def test_a_written_duration_reads_back(duration_ns):
    """The compact form loses nothing."""
    assert parse_duration(format_duration(duration_ns)) == duration_ns


def test_windows_have_bounds():
    """From a minute to 400 days, ends included."""
    assert parse_window("1m") == MINUTE_NS
    assert parse_window("400d") == 400 * DAY_NS
    for text in ("59s", "0d", "401d"):
        with pytest.raises(BadValue, match="too"):
            parse_window(text)
    with pytest.raises(BadValue, match="zero"):
        parse_positive_duration("0s")


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (2592 * SECOND_NS, "43 min 12 s"),
        (30 * DAY_NS, "30 d"),
        (5 * MINUTE_NS, "5 min"),
        (26 * HOUR_NS + 59 * MINUTE_NS, "1 d 2 h"),
        (200_000_000, "200 ms"),
        (1_999_999_999, "1 s 999 ms"),
        (7, "7 ns"),
        (0, "0 s"),
        (-2 * HOUR_NS, "-2 h"),
    ],
)
def test_people_read_two_units(duration_ns, text):
    """The rest is cut off, never rounded up."""
    assert readable_duration(duration_ns) == text


@pytest.mark.parametrize(
    "value", ["99.9%", "99.9 %", " 99.90% ", "0.999", ".999", 0.999, Decimal("0.999"), Fraction(999, 1000)]
)
def test_a_target_is_exact_however_it_is_written(value):
    """A float is read as it is printed, not as it is stored."""
    assert parse_target(value) == Fraction(999, 1000)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("100%", "no error budget"),
        ("100%", r'such as "99\.9%", or declare a limit for what must never be exceeded$'),
        ("1", "no error budget"),
        (1, "no error budget"),
        (1.0, "no error budget"),
        ("0%", "promises nothing"),
        (0, "promises nothing"),
        ("99,9", r"Use a point: 99\.9%"),
        ("99,9%", r"Use a point: 99\.9%$"),
        ("0,999", r"Use a point: 0\.999$"),
        ("99.9", r'Did you mean "99\.9%"'),
        (99.9, r'Did you mean "99\.9%"'),
        (99, r'Did you mean "99%"'),
        ("1.5", "more than everything"),
        ("150%", "more than everything"),
        (True, "no target"),
        (None, "no target"),
        (float("nan"), "no target"),
        (float("inf"), "no target"),
        (Decimal("NaN"), "no target"),
        ("nan", "no target"),
        ("-5%", "no target"),
        ("three nines", "no target"),
        ("٩٩%", "no target"),
        ("0." + "9" * 30, "too fine"),
        ("9" * 500, "no target"),
        ([], "no target"),
    ],
)
def test_bad_targets_say_what_would_be_right(value, says):
    """Each refusal names its remedy."""
    with pytest.raises(BadValue, match=says):
        parse_target(value)


@given(targets)
def test_a_written_target_reads_back(target):
    """As a percentage, as a decimal, and as a float."""
    assert parse_target(format_target(target)) == target
    assert parse_target(str(Decimal(target.numerator) / Decimal(target.denominator))) == target
    assert parse_target(float(target)) == target


@given(ratios, targets)
def test_a_shown_ratio_is_on_its_own_side_of_the_target(ratio, target):
    """What people read reaches the target exactly if the ratio does, and 100 % only if nothing failed."""
    shown = Fraction(format_ratio(ratio, target).rstrip("%")) / 100
    assert (shown >= target) == (ratio >= target)
    assert shown <= ratio
    assert (shown == 1) == (ratio == 1)


def test_ratios_for_people():
    """Rounded down, with the target's decimals at least."""
    assert format_ratio(Fraction(99_996, 100_000)) == "99.99%"
    assert format_ratio(Fraction(999_999, 1_000_000), Fraction(99_999, 100_000)) == "99.999%"
    assert format_ratio(Fraction(-1, 2)) == "-50.00%"
    assert format_ratio(Fraction(-1, 100_000)) == "-0.01%"
    assert format_ratio(Fraction(1, 3), Fraction(1, 3)) == "33.33%"
    assert format_target(Fraction(1, 3)) == "1/3"


def test_a_limit_that_is_itself_too_long_is_told_as_such():
    assert format_limit(parse_duration("200ms")) == "at or under 200ms"
    assert format_limit(parse_duration("200ms") - 1) == "under 200ms"
