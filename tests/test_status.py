"""The status of an objective and its JSON."""

from __future__ import annotations

import json
from datetime import datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.counts import Counts
from otelslo.slo import SLO, Definition
from otelslo.status import assess, healthy, ratio_number
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

NOW_NS = 1_800_000_000 * SECOND_NS
checkout = SLO("checkout", target="99.9%", window="30d")


def status_of(counts, recent=None, slo=checkout, since_ns=NOW_NS - HOUR_NS):
    """A status whose long windows hold `counts` and whose short ones `recent`."""
    recent = counts if recent is None else recent
    return assess(
        slo, None, lambda size_ns: counts if size_ns > HOUR_NS else recent, {"5xx": 2, "cut": 0}, since_ns, NOW_NS
    )


def test_the_json_has_the_fields_that_others_depend_on():
    """Names and values, by hand."""
    result = status_of(Counts(9998, 2, 40), Counts(90, 10)).to_json()
    assert result == {
        "slo": "checkout",
        "group": None,
        "target": "99.9%",
        "window": "30d",
        "window_start": "2026-12-16T08:00:00.000Z",
        "window_end": None,
        "observed_since": "2027-01-15T07:00:00.000Z",
        "observed_s": 3600.0,
        "whole": True,
        "unit": "events",
        "good": 9998,
        "bad": 2,
        "valid": 10_000,
        "excluded": 40,
        "excluded_ratio": 40 / 10_040,
        "sli": 0.9998,
        "met": True,
        "budget": {
            "allowed": 10,
            "spent": 2,
            "remaining": 8,
            "remaining_ratio": 0.8,
            "allowed_time_s": 2592.0,
            "remaining_time_s": 2073.6,
            "exhausts_at": "2027-02-14T07:48:00.000Z",
        },
        "budget_projected": {
            "allowed": 7200,
            "spent": 2,
            "remaining": 7198,
            "remaining_ratio": 7198 / 7200,
            "allowed_time_s": 2592.0,
            "remaining_time_s": 2591.28,
        },
        "sla": None,
        "slices": None,
        "throughput": None,
        "excluded_since": {"good": 0, "bad": 0},
        "planned_bad": 0,
        "about": {"owner": "", "because": "", "runbook_url": "", "labels": {}},
        "burn": {"5m": 100, "30m": 100, "1h": 100, "2h": 0.2, "6h": 0.2, "1d": 0.2, "3d": 0.2},
        "reasons_total": {"5xx": 2},
        "alerts": [],
    }


def test_a_window_that_is_not_whole_says_so_and_where_it_begins():
    """The reasons go on from the row's birth."""
    result = assess(
        checkout, None, lambda _: Counts(1), {}, NOW_NS - HOUR_NS, NOW_NS, whole=False, born_ns=NOW_NS - DAY_NS
    )
    assert (result.to_json()["whole"], result.observed_ns, result.born_ns) == (False, HOUR_NS, NOW_NS - DAY_NS)


def test_without_data_everything_is_null_and_nothing_is_good():
    """An empty window, with JSON that any parser takes."""
    result = status_of(Counts(), since_ns=None).to_json()
    assert (result["sli"], result["met"], result["excluded_ratio"], result["observed_since"]) == (
        None,
        None,
        None,
        None,
    )
    assert result["observed_s"] == 0
    assert result["budget"]["remaining_ratio"] is None
    assert set(result["burn"].values()) == {None}


def test_a_definition_read_back_gives_the_same_status():
    """A reader in another process needs no user code."""
    other = Definition.from_json(json.loads(json.dumps(checkout.definition())))
    assert status_of(Counts(99, 1), slo=other) == status_of(Counts(99, 1))


def test_burn_windows_longer_than_the_window_are_left_out():
    """And the forecast goes by the window itself when that is under an hour."""
    result = status_of(Counts(90, 10), slo=SLO("short", window="10m"))
    assert list(result.burn) == ["5m"]
    assert result.exhausts_at_ns == NOW_NS


def test_observed_time_is_part_of_the_window():
    """Never negative after a step of the clock, never more than the window."""
    assert status_of(Counts(), since_ns=NOW_NS - 90 * DAY_NS).observed_ns == 30 * DAY_NS
    assert status_of(Counts(), since_ns=NOW_NS + MINUTE_NS).observed_ns == 0


def test_a_forecast_beyond_all_calendars_is_null():
    """No overflow error."""
    result = status_of(Counts(10**18, 1), Counts(1, 1))
    assert result.to_json()["budget"]["exhausts_at"] is None


def test_exit_codes():
    """One miss is a miss; no data at all is no success."""
    good, bad, none = status_of(Counts(1, 0)), status_of(Counts(0, 1)), status_of(Counts())
    assert healthy([good, none]) == 0
    assert healthy([good, none, bad]) == 1
    assert healthy([none]) == 3
    assert healthy([]) == 3


@given(
    st.builds(Counts, st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62)),
    st.builds(Counts, st.integers(0, 2**62), st.integers(0, 2**62)),
)
def test_json_is_finite_for_any_counts(counts, recent):
    """Never NaN or infinity, times that parse, counts that stay integers."""
    result = json.loads(json.dumps(status_of(counts, recent).to_json(), allow_nan=False))
    assert (result["good"], result["bad"], result["excluded"]) == (counts.good, counts.bad, counts.excluded)
    assert datetime.fromisoformat(result["observed_since"]).tzinfo is not None


@given(st.integers(1, 10**18), st.integers(0, 10**18))
def test_a_ratio_as_a_float_stays_on_its_side(valid, good):
    """It is 1.0 only for 1, and reaches the target only if it does."""
    ratio, target = Fraction(min(good, valid), valid), Fraction(999, 1000)
    number = ratio_number(ratio, target)
    assert (number >= float(target)) is (ratio >= target)
    assert (number == 1.0) is (ratio == 1)


@pytest.mark.parametrize("near", [Fraction(10**17 - 1, 10**17), Fraction(999 * 10**20 - 1, 10**23)])
def test_a_ratio_just_below_is_not_rounded_up(near):
    """Where a plain float would."""
    assert ratio_number(near, Fraction(999, 1000)) < float(near)
