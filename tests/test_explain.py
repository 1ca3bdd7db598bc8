"""What burned a budget: by hand in words, and shares against a plain loop over the losses."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.counts import Counts
from otelslo.errors import BadValue
from otelslo.explain import DIMENSIONS, explain, explain_text, parse_dimensions, together
from otelslo.period import Calendar
from otelslo.rowkey import RowKey
from otelslo.slices import RATIO_PARTS, Slices
from otelslo.slo import SLO
from otelslo.snapshot import Loss, SavedLoss
from otelslo.status import assess
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

NOW_NS = 1_800_000_000 * SECOND_NS  # 2027-01-15T08:00Z
LONG_AGO_NS = NOW_NS - 100 * DAY_NS
checkout = SLO("checkout", target="99.9%", window="30d").as_definition


def status_of(counts, definition=checkout, since_ns=LONG_AGO_NS, group=None, **more):
    return assess(definition, group, lambda _: counts, {}, since_ns, NOW_NS, counts=counts, **more)


def key_of(group):
    return RowKey("checkout", "m", group, ("good", *[""] * 15)).text()


def loss(count=1, ago_ns=0, group=None, route="/pay", trace="", reason="5xx", status=500, exception="", version="1"):
    one = Loss(NOW_NS - ago_ns, 0, reason, count, route, status, exception, version, 0, trace, "0")
    return SavedLoss(NOW_NS - ago_ns, key_of(group), one)


MONTH = status_of(Counts(14_847_532, 12_468))  # 14,860 may fail, so 2,392 are left


def test_the_first_line_is_the_one_that_was_promised():
    """312 / 14,860 = 2.0996 %; 2,392 left * 6 h / 312 = 46 h."""
    text = explain_text(explain(MONTH, Counts(17_728, 312, 5), 6 * HOUR_NS, []))
    assert text[:3] == [
        "312 bad of 18,040 valid in the last 6 h: 2.1% of the 30-day budget; 46 h left at this burn",
        "Burn rate 17.3; at 1 the budget lasts exactly the window",
        "Excluded, in no number above: 5 events",
    ]
    assert text[3] == "Of the 312 bad events none is in the loss log, so what burned it is not known further"


def test_shares_in_words_and_whether_they_are_exact():
    losses = [
        loss(200, 3, route="/pay", trace="a" * 32),
        loss(60, 1, route="/cart", trace="b" * 32, exception="KeyError"),
        *[loss(10, 2, route=f"/r{n}") for n in range(5)],
        loss(2, 9, route="", status=0, reason="crashed"),
    ]
    text = explain_text(explain(MONTH, Counts(17_728, 312), HOUR_NS, losses))
    assert "By route: 64% /pay, 19% /cart, 3% /r0, 3% /r1, 10% 4 others" in text
    assert "By reason: 99% 5xx, <1% crashed" in text
    assert "By exception: 80% none, 19% KeyError" in text
    assert not any(line.startswith("By group") for line in text)
    assert text[-2:] == [
        "Shares are exact: all 312 bad events are accounted for",
        f"Newest traces: {'b' * 32}, {'a' * 32}",
    ]
    sample = explain(MONTH, Counts(17_728, 1_000), HOUR_NS, losses, reasons={"5xx": 1_900, "crashed": 7})
    assert not sample.exact
    assert not any(share.exact for one in sample.breakdowns for share in one.shares)
    words = explain_text(sample)
    assert "Shares are those of a sample: the loss log has 312 of the 1,000 bad events" in words
    assert "By reason since it was first seen, exactly: 1,900 5xx, 7 crashed" in words


def test_a_log_with_more_than_was_counted_is_not_exact():
    found = explain(MONTH, Counts(9, 1), HOUR_NS, [loss(2)])
    assert not found.exact
    assert "Shares are those of the loss log, which has 2 bad events where 1 are counted" in explain_text(found)


def test_reasons_are_exact_from_the_cells_when_all_failures_ever_are_the_span_s():
    found = explain(MONTH, Counts(90, 10), HOUR_NS, [loss(3)], reasons={"crashed": 4, "5xx": 6})
    by_reason, by_class, by_route = found.breakdowns[:3]
    assert [(s.values, s.count, s.share, s.exact) for s in by_reason.shares] == [
        (("5xx",), 6, Fraction(3, 5), True),
        (("crashed",), 4, Fraction(2, 5), True),
    ]
    assert [(s.values, s.count, s.exact) for s in by_class.shares] == [
        (("error",), 6, True),
        (("infrastructure",), 4, True),
    ]
    assert (by_route.exact, by_route.told) == (False, 3)
    assert (
        "Shares by reason, class are exact; the others are those of a sample: the loss log has 3 of the 10 bad events"
        in (explain_text(found))
    )


def test_groups_together_are_exact_from_their_counts():
    parts = [status_of(Counts(900, 100), group="a"), status_of(Counts(1_990, 10), group="b")]
    whole = together(parts)
    assert (whole.group, whole.counts, whole.budget.allowed) == (None, Counts(2_890, 110), 3)
    found = explain(whole, Counts(290, 10), HOUR_NS, [loss(1, group="b")], bad_by_group={"a": 8, "b": 2, "c": 0})
    (by_group,) = [one for one in found.breakdowns if one.by == ("group",)]
    assert [(s.values, s.count, s.exact) for s in by_group.shares] == [(("a",), 8, True), (("b",), 2, True)]


def test_a_group_by_itself_is_not_broken_down_by_group():
    found = explain(replace(MONTH, group="route=/pay"), Counts(9, 1), HOUR_NS, [loss(group="route=/pay")])
    assert [one.by for one in found.breakdowns] == [(name,) for name in DIMENSIONS if name not in ("class", "group")]


def test_together_of_one_is_itself():
    assert together([MONTH]) is MONTH


def test_a_window_that_is_not_full_is_told_on_both_bases():
    """One hour seen: 300 of 18,000 failed. A month of that has 12,960 to spend, the hour 18."""
    hour = Counts(17_700, 300)
    found = explain(status_of(hour, since_ns=NOW_NS - HOUR_NS), hour, 6 * HOUR_NS, [])
    assert (found.seen_ns, found.spent, found.spent_so_far) == (HOUR_NS, Fraction(300, 12_960), Fraction(300, 18))
    assert explain_text(found)[:3] == [
        "300 bad of 18,000 valid in the 1 h that it has been observed: 2.4% of the 30-day budget; "
        "42 h left at this burn",
        "Burn rate 16.7; at 1 the budget lasts exactly the window",
        "The window has been observed for 1 h of 30 d: of what its traffic so far allows, 1,667% is spent",
    ]


@pytest.mark.parametrize(
    ("counts", "whole", "start"),
    [
        (Counts(), Counts(99_990, 10), "Nothing valid was seen in the last 1 h"),
        (Counts(5, 0), Counts(99_990, 10), "None bad of 5 valid in the last 1 h"),
        (Counts(5, 0), Counts(99_000, 100), "None bad of 5 valid in the last 1 h; none of the 30-day budget is left"),
        (Counts(9_999, 1), Counts(99_990, 10), "1 bad of 10,000 valid in the last 1 h: 1.0% of the 30-day budget; it"),
        (
            Counts(9_999, 1),
            Counts(9_990, 10),
            "1 bad of 10,000 valid in the last 1 h: 10.0% of the 30-day budget; none",
        ),
        (Counts(0, 99), Counts(99_900, 100), "99 bad of 99 valid in the last 1 h: 99.0% of the 30-day budget; none of"),
        (Counts(0, 1_999), Counts(1_998_000, 1_999), "1,999 bad of 1,999 valid in the last 1 h: 99.9% of the 30-day b"),
        (Counts(0, 2_001), Counts(1_997_999, 2_001), "2,001 bad of 2,001 valid in the last 1 h: 101% of the 30-day b"),
        (Counts(9, 1), Counts(99_900, 100), "1 bad of 10 valid in the last 1 h: 1.0% of the 30-day budget; none of it"),
    ],
)
def test_other_first_lines(counts, whole, start):
    """A burn of 1 or less lasts; exactly spent is used up."""
    assert explain_text(explain(status_of(whole), counts, HOUR_NS, []))[0].startswith(start)


def test_a_calendar_window_whose_budget_lasts_to_its_end():
    """Half a January is left: 40 bad in an hour eat 2,960 only in 74 h; 4 in an hour not before February."""
    month = replace(checkout, period=Calendar("month", "UTC"), window_ns=32 * DAY_NS)
    status = status_of(Counts(2_996_960, 40), month)
    fast, slow = (explain(status, Counts(1_000 - bad, bad), HOUR_NS, []) for bad in (40, 4))
    assert fast.left_ns is not None
    assert slow.left_ns is None
    assert explain_text(slow)[0].endswith(
        "of the budget of this month (UTC); it lasts until the window's end at this burn"
    )


def test_slices_are_told_as_slices_and_as_events():
    slices = Slices("ratio_timeslices", 5 * MINUTE_NS)
    definition = replace(checkout, slices=slices)
    units = Counts(RATIO_PARTS * 11 + RATIO_PARTS // 4, RATIO_PARTS * 3 // 4)
    found = explain(status_of(units, definition), units, HOUR_NS, [loss(30)], events=Counts(570, 30))
    assert explain_text(found)[0].startswith("0.75 slices bad of 12 slices valid in the last 1 h: ")
    assert "In events: 30 bad of 600 valid" in explain_text(found)
    assert found.exact


def test_excluded_and_planned_stand_apart():
    found = explain(MONTH, Counts(90, 10, 8), HOUR_NS, [], excluded_since=Counts(4, 2), planned_bad=7)
    text = explain_text(found)
    assert "Excluded, in no number above: 8 events (6 of them after the fact: 4 good, 2 bad)" in text
    assert "Inside planned annotations: 7 bad events; they stay spent" in text


def test_what_was_planned_is_told_in_the_unit_of_the_budget():
    definition = replace(checkout, slices=Slices("ratio_timeslices", 5 * MINUTE_NS))
    units = Counts(RATIO_PARTS * 9, RATIO_PARTS * 3)
    for planned_bad, told in ((RATIO_PARTS * 3 // 2, "1.50"), (2 * RATIO_PARTS, "2")):
        found = explain(status_of(units, definition), units, HOUR_NS, [], planned_bad=planned_bad)
        assert f"Inside planned annotations: {told} bad slices; they stay spent" in explain_text(found)


def test_what_came_with_requests_is_made_printable():
    text = explain_text(explain(MONTH, Counts(9, 1), HOUR_NS, [loss(route="/a\x1b[31m\nb\u202e" + "x" * 500)]))
    (line,) = [line for line in text if line.startswith("By route")]
    assert line.startswith("By route: 100% /a?[31m?b?xxx")
    assert len(line) < 100


def test_newest_three_traces_of_a_share():
    losses = [loss(1, ago, trace=trace) for ago, trace in enumerate(["c", "", "b", "b", "a", "d"])]
    found = explain(MONTH, Counts(9, 6), HOUR_NS, reversed(losses), [("route",)])
    assert found.breakdowns[0].shares[0].trace_ids == ("c", "b", "a")


def test_json_is_plain_and_has_no_nan():
    for counts in (Counts(), Counts(17_728, 312)):
        found = explain(status_of(counts), counts, HOUR_NS, [loss(), loss(exception="E")], [("route", "exception")])
        data = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert data["shares"][0]["by"] == ["route", "exception"]
        assert data["shares"][0]["shares"][0]["exception"] in ("E", None)
    assert data["valid"] == 18_040


def test_who_asks_for_what_no_failure_says_is_told_so():
    found = explain(MONTH, Counts(10, 2), HOUR_NS, [loss(2, version="")], [("version",)])
    assert "By version: 100% none" in explain_text(found)
    by_itself = explain(MONTH, Counts(10, 2), HOUR_NS, [loss(2, version="")])
    assert not any("version" in line for line in explain_text(by_itself))


def test_dimensions():
    assert parse_dimensions("route, version") == ("route", "version")
    with pytest.raises(BadValue, match="Did you mean 'route'"):
        parse_dimensions("rute")
    for wrong in ("", "route,route", "route,,version"):
        with pytest.raises(BadValue):
            parse_dimensions(wrong)


losses_lists = st.lists(
    st.builds(
        loss,
        count=st.integers(1, 50),
        ago_ns=st.integers(0, 10),
        group=st.sampled_from([None, "g"]),
        route=st.sampled_from(["", "/a", "/b"]),
        reason=st.sampled_from(["5xx", "crashed"]),
        status=st.sampled_from([0, 500, 503]),
        exception=st.sampled_from(["", "KeyError"]),
        version=st.sampled_from(["", "1"]),
        trace=st.sampled_from(["", "t1", "t2"]),
    ),
    max_size=30,
)


@given(losses_lists, st.permutations(DIMENSIONS), st.integers(1, 6), st.integers(-3, 3))
def test_shares_equal_a_plain_loop(losses, order, size, more):
    by = tuple(order[:size])
    logged = sum(one.loss.count for one in losses)
    bad = max(0, logged + more)
    (found,) = explain(MONTH, Counts(10, bad), HOUR_NS, losses, [by]).breakdowns
    sums = defaultdict(int)
    for one in losses:
        known = {name: str(getattr(one.loss, name, "") or "") for name in DIMENSIONS}
        known["group"] = RowKey.parse(one.row_key).group or ""
        known["class"] = {"5xx": "error", "crashed": "infrastructure"}[one.loss.reason]
        sums[tuple(known[name] for name in by)] += one.loss.count
    assert {share.values: share.count for share in found.shares} == dict(sums)
    assert sum(share.share for share in found.shares) == (1 if losses else 0)
    assert [share.count for share in found.shares] == sorted(sums.values(), reverse=True)
    assert found.exact == (logged == bad) == all([found.exact, *(share.exact for share in found.shares)])


@given(st.lists(st.builds(Counts, st.integers(0, 1000), st.integers(0, 50), st.integers(0, 9)), min_size=1))
def test_together_is_the_sum(parts):
    whole = together([status_of(one, group=str(n), since_ns=NOW_NS - HOUR_NS) for n, one in enumerate(parts)])
    assert whole.counts == sum(parts, Counts())
    assert whole.budget.allowed == Fraction(whole.counts.valid, 1000)
    if whole.counts.valid:
        assert whole.projected.allowed == Fraction(720 * whole.counts.valid, 1000)
