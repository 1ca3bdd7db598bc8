"""OpenSLO in: what each part of a document becomes, what is only noted, and where an error stands."""

from __future__ import annotations

from fractions import Fraction
from textwrap import dedent

import pytest
from openslo_documents import (
    ALERTED,
    CHECKOUT,
    METHOD,
    OBJECTIVE,
    REFERRED,
    SEARCH,
    WINDOW,
    annotated,
    changed,
    pointed_at,
)

from otelslo import SLO, openslo
from otelslo.alerts import Tier
from otelslo.period import Calendar, Rolling
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

TOTAL = "total: {metricSource: {type: otelslo, spec: {indicator: availability}}}"
MATCH = 'match: {route: "/checkout/*"}'


def only(text: str) -> SLO:
    (slo,) = openslo.read(text, "slo.yaml").slos
    return slo


def notices(text: str) -> list[str]:
    return [str(notice) for notice in openslo.read(text, "slo.yaml").notices]


def test_a_ratio_of_ours() -> None:
    """The same objective as in our own form, and nothing to say about it."""
    same = SLO("checkout", target="99.9%", window="28d", match={"route": "/checkout/*"}, labels={"service": "shop"})
    assert only(CHECKOUT).definition() == same.definition()
    assert notices(CHECKOUT) == []


@pytest.mark.parametrize(
    "pairs",
    [
        [("good: {", "bad: {")],
        [("        good:", "        raw:"), (TOTAL, "rawType: failure")],
        [(TOTAL, TOTAL.replace("indicator: availability", MATCH))],
        [("target: 0.999", "targetPercent: 99.9")],
        [("        counter: true\n", "")],
    ],
    ids=["bad", "raw", "total-with-match", "percent", "no-counter"],
)
def test_other_ways_to_say_the_same(pairs: list[tuple[str, str]]) -> None:
    """What is good is the indicator's to know, so the way of counting changes nothing."""
    assert only(changed(CHECKOUT, *pairs)).definition() == only(CHECKOUT).definition()


@pytest.mark.parametrize(
    ("pairs", "threshold_ns"),
    [
        ([], 500_000_000),
        ([("op: lte", "op: lt")], 499_999_999),
        ([("value: 500", "value: 0.5"), ("indicator: latency", "indicator: latency, unit: s")], 500_000_000),
        ([("value: 500", "value: 0.25")], 250_000),
    ],
)
def test_a_threshold_is_op_and_value(pairs: list[tuple[str, str]], threshold_ns: int) -> None:
    """In milliseconds unless `unit` says otherwise; `lt` excludes the value itself."""
    slo = only(changed(SEARCH, *pairs))
    assert (slo.indicator, slo.threshold_ns, slo.target_ratio) == ("latency", threshold_ns, Fraction(99, 100))


def test_a_threshold_within_a_ratio() -> None:
    """Where several objectives share an indicator, its threshold stands in the metric."""
    text = changed(
        CHECKOUT,
        ("spec: {indicator: availability, match", "spec: {indicator: latency, threshold: 200ms, match"),
        ("spec: {indicator: availability}", "spec: {indicator: latency}"),
    )
    assert only(text).threshold_ns == 200_000_000


@pytest.mark.parametrize(
    ("window", "period"),
    [
        ("[{duration: 90m, isRolling: true}]", Rolling(90 * MINUTE_NS)),
        ("[{duration: 4w}]", Rolling(28 * DAY_NS)),
        ("[{duration: 1M, calendar: {startTime: 2024-02-01 00:00:00, timeZone: Iran}}]", Calendar("month", "Iran")),
        ("[{duration: 1Q, isRolling: false, calendar: {timeZone: UTC}}]", Calendar("quarter")),
        ("[{duration: 1Y, calendar: {startTime: 2024-01-01 00:00:00, timeZone: UTC}}]", Calendar("year")),
        ("[{duration: 1w, calendar: {startTime: 2024-01-01 00:00:00, timeZone: UTC}}]", Calendar("week")),
        ("[{duration: 1d, calendar: {startTime: 2024-01-03 00:00:00, timeZone: UTC}}]", Calendar("day")),
    ],
)  # fmt: skip
def test_windows(window: str, period: Rolling | Calendar) -> None:
    """Rolling and calendar, with the units of OpenSLO: m is a minute, M a month."""
    text = changed(CHECKOUT, (WINDOW, window))
    assert only(text).period == period
    assert notices(text) == []


def test_budgeting_in_slices() -> None:
    """Slices with a bar, and ratios of slices; a plain number is minutes."""
    sliced = "[{target: 0.99, timeSliceTarget: 0.95, timeSliceWindow: 5m}]"
    slo = only(changed(CHECKOUT, (METHOD, "budgetingMethod: Timeslices"), (OBJECTIVE, sliced)))
    assert slo.slices is not None
    assert (slo.slices.method, slo.slices.length_ns, slo.slices.bar) == ("timeslices", 5 * MINUTE_NS, Fraction(19, 20))
    ratios = only(
        changed(
            CHECKOUT, (METHOD, "budgetingMethod: RatioTimeslices"), (OBJECTIVE, "[{target: 0.99, timeSliceWindow: 2}]")
        )
    )
    assert ratios.slices is not None
    assert (ratios.slices.method, ratios.slices.length_ns) == ("ratio_timeslices", 2 * MINUTE_NS)


def test_several_objectives_are_several_slos() -> None:
    """Named after their displayName, or their place."""
    text = changed(CHECKOUT, (OBJECTIVE, "[{displayName: Good Days, target: 0.99}, {target: 0.9}]"))
    found = openslo.read(text, "slo.yaml")
    assert [(slo.name, slo.target) for slo in found.slos] == [("checkout-good-days", "99%"), ("checkout-2", "90%")]
    (notice,) = found.notices
    assert pointed_at(text, str(notice)).startswith("objectives:")


def test_the_sla_beside_its_objective() -> None:
    """As the specification's own example names it; not where it is more than another target."""
    text = changed(CHECKOUT, (OBJECTIVE, "[{displayName: Internal, target: 0.999}, {displayName: SLA, target: 0.99}]"))
    slo = only(text)
    assert (slo.name, slo.target_ratio, slo.sla_ratio) == ("checkout", Fraction(999, 1000), Fraction(99, 100))
    assert notices(text) == []
    other = "[{op: lt, value: 1, target: 0.999}, {displayName: SLA, op: lt, value: 2, target: 0.99}]"
    slos = openslo.read(changed(SEARCH, ("[{op: lte, value: 500, target: 0.99}]", other)), "slo.yaml").slos
    assert [slo.name for slo in slos] == ["search-1", "search-sla"]


def test_objectives_of_a_composite_are_slos_of_their_own() -> None:
    """The composite budget is not kept, which is said at the first indicator."""
    text = """
    apiVersion: openslo/v1
    kind: SLO
    metadata: {name: journey}
    spec:
      service: shop
      timeWindow: [{duration: 28d, isRolling: true}]
      budgetingMethod: Occurrences
      objectives:
        - {displayName: cart, target: 0.99, indicatorRef: cart, compositeWeight: 2}
        - {displayName: pay, target: 0.999, indicatorRef: pay}
    ---
    apiVersion: openslo/v1
    kind: SLI
    metadata: {name: cart}
    spec: {thresholdMetric: {metricSource: {type: otelslo, spec: {indicator: latency}}}}
    ---
    apiVersion: openslo/v1
    kind: SLI
    metadata: {name: pay}
    spec: {ratioMetric: {rawType: success, raw: {metricSource: {type: otelslo, spec: {match: {route: /pay}}}}}}
    """
    text = changed(dedent(text).lstrip(), ("compositeWeight: 2", "compositeWeight: 2, op: lt, value: 90"))
    found = openslo.read(text, "slo.yaml")
    assert [(slo.name, slo.indicator) for slo in found.slos] == [
        ("journey-cart", "latency"),
        ("journey-pay", "availability"),
    ]
    places = [pointed_at(text, str(notice)).split(":")[0] for notice in found.notices]
    assert places == ["indicatorRef", "compositeWeight", "objectives"]


def test_objects_are_found_by_their_names() -> None:
    """In one document, in a list, in any order; nothing is left to say."""
    found = openslo.read(REFERRED, "slo.yaml")
    (slo,) = found.slos
    assert found.notices == ()
    assert slo.labels == {"team": "a,b", "tier": "1", "service": "shop"}
    assert slo.description == "Buying works"
    assert slo.alert_plan.tiers == (
        Tier("fast-burn", "page", HOUR_NS, 4 * MINUTE_NS, Fraction(144, 10), 2 * MINUTE_NS),
        Tier("slow-burn", "ticket", DAY_NS, 2 * HOUR_NS, Fraction(3)),
    )
    assert slo.alert_plan.no_data_ns == HOUR_NS
    assert slo.as_definition.notify == ("ops", "desk")
    assert found.channels == {"ops": {"webhook": {"url": "env:OPS_HOOK"}}}
    lines = REFERRED.splitlines()
    at = {name: int(place.split(":")[1]) - 1 for name, place in found.places.items()}
    assert "otelslo.io/channel" in lines[at["ops"]]
    assert lines[at["desk"]] == "spec: {target: otelslo}"


def test_policies_replace_the_default_alerts() -> None:
    """Without any there are the defaults; what is around the tiers is an annotation."""
    assert [tier.name for tier in only(CHECKOUT).alert_plan.tiers] == [
        "page-fast",
        "page-slow",
        "ticket-fast",
        "ticket-slow",
    ]
    (tier,) = only(ALERTED).alert_plan.tiers
    assert (tier.name, tier.short_ns) == ("fast-burn", 5 * MINUTE_NS)
    around = "otelslo.io/alerts: '{guard: off, exhausted: page}'"
    plan = only(annotated(ALERTED, around)).alert_plan
    assert (len(plan.tiers), plan.confidence, plan.exhausted, plan.exclusion_share) == (1, None, "page", "ticket")
    assert only(annotated(CHECKOUT, "otelslo.io/alerts: off")).alert_plan.off
    sliced = changed(
        ALERTED,
        (METHOD, "budgetingMethod: Timeslices"),
        (OBJECTIVE, "[{target: 0.98, timeSliceTarget: 0.95, timeSliceWindow: 10m}]"),
    )
    assert only(sliced).alert_plan.tiers[0].short_ns == 20 * MINUTE_NS


def test_annotations_say_what_openslo_cannot() -> None:
    """The keys of slo.yaml; an empty one takes away what the document must say."""
    ours = """metadata:
  name: checkout
  annotations:
    otelslo.io/owner: payments
    otelslo.io/because: "people cannot buy"
    otelslo.io/runbook_url: https://example.com/run
    otelslo.io/sla: 99.5%
    otelslo.io/window: 150s
    otelslo.io/notify: "[ops, desk]"
    otelslo.io/service: ""
spec"""
    slo = only(changed(CHECKOUT, ("metadata: {name: checkout}\nspec", ours), ("28d", "3m")))
    assert (slo.owner, slo.because, slo.runbook_url) == ("payments", "people cannot buy", "https://example.com/run")
    assert (slo.sla_ratio, slo.window_ns, slo.labels) == (Fraction(995, 1000), 150 * SECOND_NS, {})
    assert slo.as_definition.notify == ("ops", "desk")
