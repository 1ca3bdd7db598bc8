"""Plans of alerts: the defaults, what can be written, and what is refused with its place and remedy."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.alerts import (
    OFF,
    RESERVED,
    SEVERITIES,
    AlertPlan,
    Tier,
    can_fire,
    default_tiers,
    parse_alerts,
)
from otelslo.errors import DefinitionError, Place
from otelslo.tiers import DEFAULT_NAMES, sees
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

NINES = Fraction(999, 1000)
MONTH_NS = 30 * DAY_NS
PLACE = Place("SLO 'x'").at("alerts")
FAST = {"severity": "page", "long": "1h", "short": "5m", "budget": "2%"}


def parse(value, window_ns=MONTH_NS, target=NINES, **options) -> AlertPlan:
    return parse_alerts(value, window_ns, target, PLACE, **options)


def refused(value, **options) -> str:
    with pytest.raises(DefinitionError) as error:
        parse(value, **options)
    return str(error.value)


def factors(tiers) -> dict[str, Fraction]:
    return {tier.name: tier.factor for tier in tiers}


def test_the_workbooks_tiers():
    """Table 5-8 and its fourth pair, for 30 days."""
    assert default_tiers(MONTH_NS, NINES) == (
        Tier("page-fast", "page", HOUR_NS, 5 * MINUTE_NS, Fraction("14.4")),
        Tier("page-slow", "page", 6 * HOUR_NS, 30 * MINUTE_NS, Fraction(6)),
        Tier("ticket-fast", "ticket", DAY_NS, 2 * HOUR_NS, Fraction(3)),
        Tier("ticket-slow", "ticket", 3 * DAY_NS, 6 * HOUR_NS, Fraction(1)),
    )


def test_factors_follow_the_window():
    """Exactly: the same shares of the budget, whatever the window; slower than half the budget's pace is left out."""
    four = {"page-fast": "13.44", "page-slow": "5.6", "ticket-fast": "2.8", "ticket-slow": "14/15"}
    assert factors(default_tiers(28 * DAY_NS, NINES)) == {name: Fraction(text) for name, text in four.items()}
    week = {"page-fast": Fraction("3.36"), "page-slow": Fraction("1.4"), "ticket-fast": Fraction("0.7")}
    assert factors(default_tiers(7 * DAY_NS, NINES)) == week
    assert default_tiers(DAY_NS, NINES) == ()
    for tier in default_tiers(90 * DAY_NS, NINES):
        share = {"page-fast": "0.02", "page-slow": "0.05"}.get(tier.name, "0.1")
        assert tier.share(90 * DAY_NS) == Fraction(share)


def test_what_can_never_fire_is_no_default():
    """At 90 % everything failing burns at 10: a factor of 14.4 is dead, and so is one of 10."""
    assert "page-fast" not in factors(default_tiers(MONTH_NS, Fraction(9, 10)))
    assert can_fire(Fraction(999_999, 100_000), Fraction(9, 10))
    assert not can_fire(Fraction(10), Fraction(9, 10))
    assert "page-slow" not in factors(default_tiers(MONTH_NS, Fraction(5, 6)))


@given(st.integers(1, 400 * 24).map(lambda hours: hours * HOUR_NS), st.fractions(0, 1).filter(lambda t: 0 < t < 1))
def test_every_default_is_one_that_may_be_written(window_ns, target):
    """Written out in full, it is accepted as it is."""
    defaults = default_tiers(window_ns, target)
    for tier in defaults:
        assert tier.short_ns < tier.long_ns < window_ns
        written = {"severity": tier.severity, "long": f"{tier.long_ns}ns", "short": f"{tier.short_ns}ns"}
        written["budget"] = tier.share(window_ns)
        assert parse({"tiers": {tier.name: written}}, window_ns, target).tiers == defaults


def test_slices_and_sampled_indicators():
    """Tickets only, and windows of whole slices, at least two, with factors for the windows as they are then."""
    assert [tier.name for tier in default_tiers(MONTH_NS, NINES, tickets_only=True)] == ["ticket-fast", "ticket-slow"]
    daily = default_tiers(MONTH_NS, NINES, tickets_only=True, slice_ns=DAY_NS)
    assert daily == (Tier("ticket-slow", "ticket", 3 * DAY_NS, 2 * DAY_NS, Fraction(1)),)
    odd = default_tiers(MONTH_NS, NINES, slice_ns=7 * MINUTE_NS)
    assert (odd[0].long_ns, odd[0].short_ns) == (63 * MINUTE_NS, 14 * MINUTE_NS)
    assert all(tier.share(MONTH_NS) == Fraction(1, 50) for tier in odd if tier.name == "page-fast")
    assert default_tiers(MONTH_NS, NINES, slice_ns=7 * DAY_NS) == ()


FAST_H, SLOW_H = {"ticket-fast": (24, 12)}, {"ticket-slow": (72, 36)}  # long and short windows


@pytest.mark.parametrize(
    ("labels_h", "expected"),
    [
        (1, {"ticket-fast": (24, 2), "ticket-slow": (72, 6)}),
        (12, FAST_H | {"ticket-slow": (72, 24)}),
        (24, FAST_H | SLOW_H | {"ticket-late": (96, 48)}),
        (7 * 24, FAST_H | SLOW_H | {"ticket-late": (21 * 24, 14 * 24)}),
        (14 * 24, FAST_H | SLOW_H),  # no window of four weeks holds enough of what is two weeks old
    ],
)
def test_windows_hold_what_is_labelled_by_then(labels_h, expected):
    """A short window is twice as long as a label takes, if one fits, and no default fires where the target is met."""
    tiers = default_tiers(28 * DAY_NS, Fraction(95, 100), tickets_only=True, labels_ns=labels_h * HOUR_NS)
    assert {tier.name: (tier.long_ns // HOUR_NS, tier.short_ns // HOUR_NS) for tier in tiers} == expected
    assert all(tier.factor >= 1 for tier in tiers if tier.name == "ticket-late")


@given(
    window_h=st.integers(24, 90 * 24), labels_min=st.integers(1, 40 * 1440), slice_ns=st.sampled_from([None, DAY_NS])
)
def test_default_tiers_of_late_labels_can_be_written_down(window_h, labels_min, slice_ns):
    window_ns, target = window_h * HOUR_NS, Fraction(95, 100)
    options = {"tickets_only": True, "slice_ns": slice_ns, "labels_ns": labels_min * MINUTE_NS}
    defaults = default_tiers(window_ns, target, **options)
    written = {tier.name: {} for tier in defaults}
    assert parse({"tiers": written}, window_ns, target, **options).tiers == defaults
    for tier in defaults:
        assert tier.short_ns < tier.long_ns < window_ns
        if tier.name == "ticket-late":
            assert sees(tier, labels_min * MINUTE_NS)


def test_the_late_tier_is_a_default_one_by_name():
    week = {"tickets_only": True, "labels_ns": 7 * DAY_NS}
    names = [tier.name for tier in parse({"tiers": {"ticket-late": "off"}}, **week).tiers]
    assert names == ["ticket-fast", "ticket-slow"]
    changed = parse({"tiers": {"ticket-late": {"long": "20d"}}}, **week).tiers[-1]
    assert (changed.long_ns, changed.factor) == (20 * DAY_NS, 1)


def test_nothing_written_is_the_defaults_and_off_is_nothing():
    """`off` is a text in YAML and False in Python."""
    assert parse(None) == parse({}) == AlertPlan(default_tiers(MONTH_NS, NINES))
    assert parse("off") == parse(False) == OFF
    assert OFF.off
    assert not parse({}).off
    assert not AlertPlan(no_data_ns=1, exhausted=None, exclusion_share=None).off


def test_everything_can_be_changed():
    """By name, part by part."""
    plan = parse(
        {
            "guard": "99.5%",
            "no_data": "1h",
            "exhausted": "page",
            "exclusion_share": "off",
            "tiers": {"page-slow": "off", "ticket-fast": False, "page-fast": {"for": "2m"}, "own": FAST},
        }
    )
    assert plan.confidence == Fraction("0.995")
    assert (plan.no_data_ns, plan.exhausted, plan.exclusion_share) == (HOUR_NS, "page", None)
    assert [tier.name for tier in plan.tiers] == ["page-fast", "ticket-slow", "own"]
    assert plan.tiers[0] == Tier("page-fast", "page", HOUR_NS, 5 * MINUTE_NS, Fraction("14.4"), 2 * MINUTE_NS)
    assert plan.tiers[2] == Tier("own", "page", HOUR_NS, 5 * MINUTE_NS, Fraction("14.4"))
    assert parse({"guard": "off"}).confidence is None
    assert parse({"tiers": "off"}).tiers == ()


def test_a_default_in_part():
    """A longer window of the same share has a smaller factor; a factor takes the share's place."""
    slower = parse({"tiers": {"page-fast": {"long": "2h", "severity": "ticket"}}}).tiers[0]
    assert (slower.severity, slower.long_ns, slower.factor) == ("ticket", 2 * HOUR_NS, Fraction("7.2"))
    assert parse({"tiers": {"page-fast": {"factor": 10}}}).tiers[0].factor == 10
    short = parse({"tiers": {"page-fast": {"long": "30m", "short": "2m"}}}, window_ns=HOUR_NS).tiers
    assert factors(short) == {"page-fast": Fraction(4, 100)}  # no default there, and yet as it is written


@pytest.mark.parametrize("factor", ["14.4", 14.4, Decimal("14.4"), Fraction(72, 5)])
@pytest.mark.parametrize("share", ["2%", "2.0 %", 0.02, Decimal("0.02"), "0.02", Fraction(1, 50), "2e-2"])
def test_numbers_are_read_as_they_are_written(factor, share):
    """No binary rounding: a factor and its share are the same tier."""
    by_factor = parse({"tiers": {"x": {k: v for k, v in FAST.items() if k != "budget"} | {"factor": factor}}})
    by_share = parse({"tiers": {"x": FAST | {"budget": share}}})
    assert by_factor == by_share


@pytest.mark.parametrize(
    ("value", "place", "problem", "remedy"),
    [
        (True, "alerts:", "True is no plan", "Write off"),
        ([], "alerts:", "[] is no plan", "mapping"),
        ({"tier": {}}, "alerts.tier:", "unknown key 'tier'", "'tiers'"),
        ({"guard": "40%"}, "alerts.guard:", "confidence", "50%"),
        ({"guard": 99}, "alerts.guard:", "more than everything", "99%"),
        ({"guard": 1}, "alerts.guard:", "confidence", "100%"),
        ({"guard": "very"}, "alerts.guard:", "no share", "99%"),
        ({"no_data": "30s"}, "alerts.no_data:", "out of range", "1m"),
        ({"no_data": "31d"}, "alerts.no_data:", "out of range", "30d"),
        ({"no_data": 5}, "alerts.no_data:", "no duration", "unit"),
        ({"exhausted": "sms"}, "alerts.exhausted:", "no severity", "page or ticket, or off"),
        ({"exclusion_share": True}, "alerts.exclusion_share:", "no severity", "off"),
        ({"tiers": ["page-fast"]}, "alerts.tiers:", "no mapping", "page-fast"),
        ({"tiers": {"slow": "off"}}, "alerts.tiers.slow:", "no default tier", "page-slow"),
        ({"tiers": {"x": 3}}, "alerts.tiers.x:", "3 is no tier", "severity"),
        ({"tiers": {7: FAST}}, "alerts.tiers.7:", "cannot name", "letters"),
        ({"tiers": {"no-data": FAST}}, "alerts.tiers.no-data:", "alert of its own", "another name"),
        ({"tiers": {"x": FAST | {"shrt": "1m"}}}, "alerts.tiers.x.shrt:", "unknown key", "'short'"),
        ({"tiers": {"x": {"budget": "2%"}}}, "alerts.tiers.x:", "no severity, no long, no short", "page-fast"),
        ({"tiers": {"x": FAST | {"budget": None}}}, "alerts.tiers.x:", "no budget or factor", "2%"),
        ({"tiers": {"x": FAST | {"factor": 14}}}, "alerts.tiers.x:", "both budget and factor", "one of them"),
        ({"tiers": {"x": FAST | {"severity": "info"}}}, "alerts.tiers.x.severity:", "no severity", "page or ticket"),
        ({"tiers": {"x": FAST | {"long": "50s", "short": "5s"}}}, "alerts.tiers.x.long:", "too short", "1m"),
        ({"tiers": {"x": FAST | {"short": "1h"}}}, "alerts.tiers.x.short:", "not shorter than the long", "5m"),
        ({"tiers": {"x": FAST | {"long": "30d"}}}, "alerts.tiers.x.long:", "not shorter than the objective", "off"),
        ({"tiers": {"x": FAST | {"budget": "0%"}}}, "alerts.tiers.x.budget:", "no share", "2%"),
        ({"tiers": {"x": FAST | {"budget": "101%"}}}, "alerts.tiers.x.budget:", "everything", "2%"),
        ({"tiers": {"page-fast": {"factor": -1}}}, "alerts.tiers.page-fast.factor:", "no burn rate", "14.4"),
        ({"tiers": {"page-fast": {"factor": "3%"}}}, "alerts.tiers.page-fast.factor:", "no burn rate", "14.4"),
        ({"tiers": {"page-fast": {"factor": float("nan")}}}, "alerts.tiers.page-fast.factor:", "no burn rate", "0"),
        ({"tiers": {"page-fast": {"factor": 1000}}}, "alerts.tiers.page-fast.factor:", "dead alert", "Lower"),
        ({"tiers": {"page-fast": {"for": -1}}}, "alerts.tiers.page-fast.for:", "no duration", "unit"),
    ],
)
def test_what_is_refused(value, place, problem, remedy):
    """At its place, with what would be right."""
    text = refused(value)
    assert text.startswith("SLO 'x'." + place)
    assert problem in text
    assert remedy in text


def test_other_refusals():
    """They depend on the objective."""
    text = refused({"tiers": {"x": FAST | {"budget": "60%"}}}, target=Fraction(9, 10))
    assert "no burn rate exceeds 10, and it asks for more than 432" in text
    text = refused({"tiers": {"x": FAST}}, slice_ns=5 * MINUTE_NS)
    assert "does not hold two slices of 5m. Use 10m at least" in text
    assert "no default tier" in refused({"tiers": {"page-fast": {"for": "1m"}}}, tickets_only=True)
    assert parse({"tiers": {"page-fast": "off"}}, tickets_only=True).tiers
    many = {f"x{index}": FAST for index in range(20)}
    assert "too many" in refused({"tiers": many})


tiers = st.builds(
    Tier,
    st.text("abc-_1", min_size=1, max_size=8),
    st.sampled_from(SEVERITIES),
    st.integers(MINUTE_NS, 400 * DAY_NS),
    st.integers(SECOND_NS, DAY_NS),
    st.fractions(min_value=Fraction(1, 1000), max_value=1000),
    st.integers(0, HOUR_NS),
)
plans = st.builds(
    AlertPlan,
    st.lists(tiers, max_size=4).map(tuple),
    st.none() | st.fractions(Fraction(6, 10), Fraction(99, 100)),
    st.none() | st.integers(MINUTE_NS, MONTH_NS),
    st.none() | st.sampled_from(SEVERITIES),
    st.none() | st.sampled_from(SEVERITIES),
)


@given(plans)
def test_a_plan_survives_json(plan):
    """Exactly, with keys that a later version may add."""
    assert AlertPlan.from_json(json.loads(json.dumps(plan.to_json())) | {"later": 1}) == plan


@pytest.mark.parametrize(
    "damage",
    [
        {"tiers": None},
        {"tiers": [{}]},
        {"tiers": [3]},
        {"confidence_den": 0},
        {"exhausted": "sms"},
        {"no_data_ns": "x"},
    ],
)
def test_a_damaged_plan_is_refused(damage):
    """With one kind of error."""
    with pytest.raises(DefinitionError, match="saved alerts"):
        AlertPlan.from_json(AlertPlan(default_tiers(MONTH_NS, NINES)).to_json() | damage)
    with pytest.raises(DefinitionError, match="saved alerts"):
        AlertPlan.from_json({})


def test_names_do_not_collide():
    """A tier cannot be called as one of the other alerts."""
    assert not set(DEFAULT_NAMES) & set(RESERVED)
