"""What counts say of alerts: the Workbook's tables by simulated events, and every alert at its very edge."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.alerting import Finding, findings
from otelslo.alerts import AlertPlan, Tier, default_tiers
from otelslo.budget import budget
from otelslo.burn import burn_rate
from otelslo.counts import Counts
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, WEEK_NS

NINES = Fraction(999, 1000)
MONTH_NS = 30 * DAY_NS
FAST, SLOW, TICKET_FAST, TICKET_SLOW = default_tiers(MONTH_NS, NINES)


@dataclass
class Events:
    """A list of events in the order of their times: what a ring would count, without a ring."""

    times_ns: list[int] = field(default_factory=list)
    bad_before: list[int] = field(default_factory=lambda: [0])

    @classmethod
    def of(cls, events: Iterable[tuple[int, bool]]) -> Events:
        """Of (time_ns, bad), in order."""
        events = list(events)
        return cls([at for at, _ in events], [0, *accumulate(int(bad) for _, bad in events)])

    def counts(self, now_ns: int, length_ns: int) -> Counts:
        """Those with now - length <= time < now."""
        first, last = (bisect_left(self.times_ns, at) for at in (now_ns - length_ns, now_ns))
        bad = self.bad_before[last] - self.bad_before[first]
        return Counts(last - first - bad, bad)

    def find(self, plan: AlertPlan, now_ns: int, **options) -> dict[str, Finding]:
        return find(plan, lambda length_ns: self.counts(now_ns, length_ns), **options)


def find(plan: AlertPlan, counts_over, **options) -> dict[str, Finding]:
    """The findings by name, of an objective of 99.9 % in 30 days."""
    options = {"remaining_ratio": None, "observed_ns": MONTH_NS, "ever_valid": True} | options
    excess = options.pop("excess", lambda length_ns: 0)
    return {found.alert: found for found in findings(plan, NINES, MONTH_NS, counts_over, excess, **options)}


def only(*tiers: Tier, **options) -> AlertPlan:
    return AlertPlan(tiers, **({"confidence": None, "exhausted": None, "exclusion_share": None} | options))


def verdict(plan: AlertPlan, long: Counts, short: Counts, **options) -> str:
    """The one tier's, by the counts of its windows."""
    (tier,) = plan.tiers
    return find(plan, {tier.long_ns: long, tier.short_ns: short}.__getitem__, **options)[tier.name].verdict


def steady(rate_per_s: int, start_s: int, end_s: int, bad=lambda index: False) -> Iterable[tuple[int, bool]]:
    step_ns = SECOND_NS // rate_per_s
    return ((start_s * SECOND_NS + i * step_ns, bad(i)) for i in range((end_s - start_s) * rate_per_s))


@pytest.mark.parametrize(("tier", "hours", "after_s"), [(FAST, 1, "51.84"), (SLOW, 6, "129.6")])
def test_an_outage_trips_a_tier_after_its_share_of_time(tier, hours, after_s):
    """At 99.9 %, 25 requests a second: not with just as many failures as the factor allows, but with one more."""
    outage_s = hours * 3600
    events = Events.of([*steady(25, 0, outage_s), *steady(25, outage_s, outage_s + 180, lambda _: True)])
    after_ns = int(Fraction(after_s) * SECOND_NS)
    at_bar_ns = outage_s * SECOND_NS + after_ns
    assert events.counts(at_bar_ns, tier.long_ns).bad == after_ns * 25 // SECOND_NS
    assert events.find(only(tier), at_bar_ns)[tier.name].verdict == "quiet"
    assert events.find(only(tier), at_bar_ns + SECOND_NS // 25)[tier.name].verdict == "firing"


def test_15_percent_errors_for_10_minutes():
    """The Workbook's figure 5-6: an hour and five minutes at 14.4 fire from 5.76 to 14.52 minutes."""
    start_s = 3600
    events = Events.of(
        [
            *steady(20, 0, start_s),
            *steady(20, start_s, start_s + 600, lambda index: index % 20 in (3, 9, 16)),
            *steady(20, start_s + 600, start_s + 1800),
        ]
    )
    firing_s = []
    for second in range(1800):
        found = events.find(only(FAST), (start_s + second) * SECOND_NS)["page-fast"]
        if found.verdict == "firing":
            firing_s.append(second)
    assert firing_s == list(range(firing_s[0], firing_s[-1] + 1))
    assert abs(Fraction(firing_s[0], 60) - Fraction("5.76")) < Fraction(2, 60)
    assert abs(Fraction(firing_s[-1], 60) - Fraction("14.52")) < Fraction(2, 60)


def test_the_list_of_events_counts_right():
    """The twin's quick way against its slow one."""
    events = list(steady(2, 0, 50, lambda index: index % 7 == 0))
    twin = Events.of(events)
    for now_s, length_s in ((0, 5), (3, 1), (20, 13), (50, 50), (60, 20)):
        seen = [bad for at, bad in events if (now_s - length_s) * SECOND_NS <= at < now_s * SECOND_NS]
        counts = Counts(seen.count(False), seen.count(True))
        assert twin.counts(now_s * SECOND_NS, length_s * SECOND_NS) == counts


def test_one_failure_in_ten_requests_an_hour_pages_nobody():
    """The Workbook's low-traffic service: not by any tier, while without the guard it would page at once."""
    failed_at = 5 * 24 * 10
    events = Events.of((index * 6 * MINUTE_NS, index == failed_at) for index in range(10 * 24 * 10))
    plan, unguarded = AlertPlan(default_tiers(MONTH_NS, NINES)), only(*default_tiers(MONTH_NS, NINES))
    guarded: set[str] = set()
    fired: set[str] = set()
    for index in range(failed_at - 10, failed_at + 1000):
        now_ns = index * 6 * MINUTE_NS + 1
        fired |= {name for name, found in events.find(unguarded, now_ns).items() if found.verdict == "firing"}
        guarded |= {name for name, found in events.find(plan, now_ns).items() if found.verdict == "firing"}
    assert guarded == set()
    assert fired == {"page-fast", "page-slow", "ticket-fast", "ticket-slow"}


def test_14_failures_of_20_within_an_hour_page():
    """Few events, and yet no chance."""
    plan = AlertPlan(default_tiers(MONTH_NS, NINES))
    found = find(plan, lambda length_ns: Counts(6, 14))
    assert found["page-fast"].verdict == found["page-slow"].verdict == "firing"
    assert (found["page-fast"].data["valid_long"], found["page-fast"].data["bad_long"]) == (20, 14)


@pytest.mark.parametrize("tier", [FAST, SLOW, TICKET_FAST, TICKET_SLOW])
def test_a_burn_rate_equal_to_the_factor_is_not_above_it(tier):
    """In either window."""
    bad = int(tier.factor * 1000)
    at, above = Counts(10**6 - bad, bad), Counts(10**6 - bad - 1, bad + 1)
    assert burn_rate(at, NINES) == tier.factor
    plan = only(tier)
    assert verdict(plan, above, above) == "firing"
    assert verdict(plan, at, above) == verdict(plan, above, at) == verdict(plan, at, at) == "quiet"


@given(
    st.builds(Counts, st.integers(0, 10**6), st.integers(0, 10**4)),
    st.builds(Counts, st.integers(0, 10**5), st.integers(0, 10**4)),
    st.fractions(min_value=Fraction(1, 2), max_value=900, max_denominator=1000),
)
def test_a_tier_is_two_burn_rates(long, short, factor):
    """By fractions, as one would say it."""
    rates = [burn_rate(counts, NINES) for counts in (long + short, short)]
    expected = "unknown" if rates[1] is None else "firing" if all(rate > factor for rate in rates) else "quiet"
    assert verdict(only(replace(FAST, factor=factor)), long + short, short) == expected


def test_an_empty_short_window_says_nothing():
    """Whatever the long one holds; excluded events are none of the objective's."""
    for long in (Counts(0, 50), Counts(50, 0), Counts()):
        for plan in (only(FAST), only(FAST, confidence=Fraction(99, 100))):
            assert verdict(plan, long, Counts(excluded=9)) == "unknown"
            assert verdict(plan, long, Counts(), firing={"page-fast"}) == "unknown"


def test_the_guard_is_asked_once():
    """Three of 100: above the factor in both windows, likely enough by chance; a firing alert goes on with it."""
    plan, counts = only(FAST, confidence=Fraction(99, 100)), Counts(97, 3)
    assert verdict(plan, counts, counts) == "quiet"
    assert verdict(plan, counts, counts, firing={"page-fast"}) == "firing"
    assert verdict(plan, counts, Counts(10), firing={"page-fast"}) == "quiet"
    assert verdict(only(FAST), counts, counts) == "firing"
    assert find(plan, lambda length_ns: counts)["page-fast"].data["held"] is True


def test_failures_of_one_crash_count_once():
    """Six of 100 are no chance; if all share one crash they are as good as one of 16, which is."""
    plan, counts = only(FAST, confidence=Fraction(99, 100)), Counts(94, 6)
    asked: list[int] = []

    def excess(length_ns: int) -> int:
        asked.append(length_ns)
        return 30

    assert verdict(plan, counts, counts) == "firing"
    assert verdict(plan, counts, counts, excess=excess) == "quiet"
    assert asked == [HOUR_NS]
    assert verdict(plan, counts, counts, excess=lambda _: 10**9) == "quiet"
    assert verdict(plan, counts, counts, excess=lambda _: -3) == "firing"
    in_threes = Counts(9400, 600)  # each cause three times: 200 of 3,333 are none either
    assert verdict(plan, in_threes, in_threes, excess=lambda _: 1200) == "firing"
    assert find(plan, lambda _: in_threes, excess=lambda _: 1200)["page-fast"].data["causes"] == 200


@pytest.mark.parametrize(
    ("long", "short", "options"),
    [
        (Counts(94, 6), Counts(50), {}),  # the short window does not exceed
        (Counts(97, 3), Counts(97, 3), {}),  # chance even if all were failures of their own
        (Counts(94, 6), Counts(), {}),
        (Counts(94, 6), Counts(94, 6), {"firing": {"page-fast"}}),
    ],
)
def test_causes_are_counted_only_where_they_matter(long, short, options):
    """It is a question to a log, and not a cheap one."""

    def excess(length_ns: int) -> int:
        raise AssertionError("asked")

    verdict(only(FAST, confidence=Fraction(99, 100)), long, short, excess=excess, **options)
    verdict(only(FAST), Counts(0, 6), Counts(0, 6), excess=excess)


def test_the_facts_of_a_tier():
    """How many events it rests on, both burn rates, the share of the budget, and what was left out; fit for JSON."""
    plan = only(FAST, confidence=Fraction(99, 100))
    found = find(plan, {HOUR_NS: Counts(960, 40), 5 * MINUTE_NS: Counts(50, 50)}.__getitem__, excess=lambda _: 40)
    data = found["page-fast"].data
    assert found["page-fast"].severity == "page"
    assert (data["valid_long"], data["bad_long"], data["valid_short"], data["bad_short"]) == (1000, 40, 100, 50)
    assert (data["burn_long"], data["burn_short"], data["factor"], data["bar_ratio"]) == (40, 500, 14.4, 0.0144)
    assert data["budget_spent_ratio"] == pytest.approx(40 / 720)
    assert (data["causes"], data["held"], data["confidence"]) == (20, False, 0.99)
    assert json.loads(json.dumps(data)) == data
    assert find(plan, lambda _: Counts())["page-fast"].data == {}
    empty = find(plan, lambda _: Counts(), firing=["page-fast"])["page-fast"].data
    assert (empty["burn_long"], empty["burn_short"], empty["budget_spent_ratio"]) == (None, None, None)
    assert "NaN" not in json.dumps(empty)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Counts(999, 1), "firing"),  # exactly the budget
        (Counts(999_001, 999), "quiet"),
        (Counts(999_000, 1000), "firing"),
        (Counts(998_999, 1001), "firing"),
        (Counts(), "unknown"),
    ],
)
def test_the_budget_is_exhausted_exactly(counts, expected):
    """1 bad in 1000 at 99.9 % spends it; 999 in a million do not."""
    left = budget(counts, NINES, MONTH_NS).remaining_ratio
    found = find(only(exhausted="page"), lambda _: counts, remaining_ratio=left)["budget-exhausted"]
    assert (found.verdict, found.severity) == (expected, "page")
    assert json.loads(json.dumps(found.data)) == found.data


def test_an_exhausted_budget_does_not_flap_about_zero():
    """It resolves when a hundredth of it has come back; no data changes nothing."""
    plan = only(exhausted="ticket")
    cases = [(Fraction(1, 10**9), "firing"), (Fraction(99, 10_000), "firing"), (Fraction(1, 100), "quiet")]
    for left, expected in [*cases, (Fraction(-3), "firing"), (None, "unknown")]:
        found = find(plan, lambda _: Counts(), remaining_ratio=left, firing={"budget-exhausted"})
        assert found["budget-exhausted"].verdict == expected
    assert find(plan, lambda _: Counts(), remaining_ratio=Fraction(1, 10**9))["budget-exhausted"].verdict == "quiet"


@pytest.mark.parametrize(
    ("counts", "ever_valid", "observed_ns", "expected"),
    [
        (Counts(), True, HOUR_NS, "firing"),
        (Counts(excluded=7), True, HOUR_NS, "firing"),  # only excluded events are no data either
        (Counts(1), True, HOUR_NS, "quiet"),
        (Counts(0, 1), True, 0, "quiet"),
        (Counts(), True, HOUR_NS - 1, "unknown"),
        (Counts(), False, MONTH_NS, "quiet"),
    ],
)
def test_no_data(counts, ever_valid, observed_ns, expected):
    """Only after something was seen, and where so long has been looked at."""
    plan = only(no_data_ns=HOUR_NS)
    found = find(plan, lambda length_ns: counts, ever_valid=ever_valid, observed_ns=observed_ns)
    assert found["no-data"].verdict == expected
    assert find(only(), lambda length_ns: counts, ever_valid=ever_valid, observed_ns=observed_ns) == {}


def test_no_data_where_that_was_to_be_expected():
    """In maintenance and in what was excluded after the fact; what is valid is data all the same."""
    for name in ("maintained", "cut"):
        for counts, ever_valid, expected in (
            (Counts(), True, "unknown"),
            (Counts(excluded=7), True, "unknown"),
            (Counts(1), True, "quiet"),
            (Counts(), False, "quiet"),
        ):
            asked: list[int] = []
            reaches = {name: lambda length_ns, asked=asked: asked.append(length_ns) or True}
            hour = {HOUR_NS: counts}.__getitem__
            found = find(only(no_data_ns=HOUR_NS), hour, ever_valid=ever_valid, **reaches)
            assert found["no-data"].verdict == expected
            assert asked == ([HOUR_NS] if expected == "unknown" else [])


def share(hour: Counts, week: Counts, confidence=Fraction(99, 100), **options) -> str:
    plan = only(exclusion_share="ticket", confidence=confidence)
    return find(plan, {HOUR_NS: hour, WEEK_NS: week}.__getitem__, **options)["exclusion-share"].verdict


def test_too_many_are_excluded():
    """An identity provider's outage: 401s are excluded, and the objective would look perfect."""
    week = Counts(98_000, 0, 2_000)
    assert share(Counts(400, 0, 600), week) == "firing"
    assert share(Counts(400, 0, 600), week, None) == "firing"
    assert share(Counts(980, 0, 20), week) == "quiet"
    assert share(Counts(), week) == share(Counts(), week, firing={"exclusion-share"}) == "unknown"


def test_the_edges_of_the_exclusion_share():
    """Three times the week's share and 5 % are not above themselves; one more is."""
    week = Counts(90, 0, 10)
    assert share(Counts(700, 0, 300), week, None) == "quiet"
    assert share(Counts(699, 0, 301), week, None) == "firing"
    assert share(Counts(699, 0, 301), week) == "quiet"  # which may be chance
    assert share(Counts(699, 0, 301), week, firing={"exclusion-share"}) == "firing"
    assert share(Counts(95, 0, 5), Counts(10**6, 0, 1), None) == "quiet"
    assert share(Counts(94, 0, 6), Counts(10**6, 0, 1), None) == "firing"
    assert share(Counts(0, 0, 1000), Counts(2, 0, 1), None) == "quiet"  # where a third always is, nothing is above


def test_what_is_excluded_as_declared_is_no_exclusion_share():
    """While maintenance reaches into the hour it neither begins nor ends; after the fact it goes on."""
    week, firing = Counts(98_000, 0, 2_000), {"exclusion-share"}
    for hour in (Counts(400, 0, 600), Counts(980, 0, 20)):
        assert share(hour, week, maintained=lambda length_ns: length_ns == HOUR_NS) == "unknown"
        assert share(hour, week, maintained=lambda length_ns: length_ns == HOUR_NS, firing=firing) == "unknown"
    assert share(Counts(400, 0, 600), week, cut=lambda length_ns: True) == "firing"
    assert share(Counts(1000), week, maintained=lambda length_ns: pytest.fail("nothing hangs on it")) == "quiet"


def test_few_events_are_no_exclusion_share():
    """Three health checks at night."""
    week = Counts(10**6)
    assert share(Counts(0, 0, 19), week) == share(Counts(0, 0, 19), week, None) == "quiet"
    assert share(Counts(0, 0, 20), week) == "firing"
    assert share(Counts(5, 0, 5), week, firing={"exclusion-share"}) == "firing"
    assert share(Counts(5), week, firing={"exclusion-share"}) == "quiet"


def test_a_new_service_has_no_share_to_compare_with():
    """Its first hour is its week."""
    assert share(Counts(10, 0, 990), Counts(10, 0, 990), None) == "quiet"


def test_counts_are_asked_once_a_window():
    """A question for a window goes through a ring."""
    asked: list[int] = []

    def counts_over(length_ns: int) -> Counts:
        asked.append(length_ns)
        return Counts(1000, 500, 400)

    find(AlertPlan(default_tiers(MONTH_NS, NINES), no_data_ns=HOUR_NS), counts_over, remaining_ratio=Fraction(1, 2))
    assert len(asked) == len(set(asked))
