"""Policies: which step applies, exactly, and what is refused when one is written."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.alerts import AlertPlan, Tier
from otelslo.config import load
from otelslo.counts import Counts
from otelslo.definition import Definition
from otelslo.errors import DefinitionError, Place
from otelslo.policy import (
    DEFAULT_POLICY,
    Condition,
    Policy,
    Step,
    Verdict,
    exact_number,
    parse_policy,
    refuse_dead_steps,
    verdict,
)
from otelslo.slices import RATIO_PARTS, RATIO_TIMESLICES, Slices
from otelslo.slo import SLO
from otelslo.status import assess
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

NOW_NS = 1_800_000_000 * SECOND_NS
PLACE = Place("policy")
CHECKOUT = SLO("checkout", target="99.9%", window="30d")
PAGE = {"name": "page-fast", "severity": "page", "state": "firing", "inhibited": False}
TICKET = {"name": "ticket-slow", "severity": "ticket", "state": "firing", "inhibited": True}


def status_of(good=0, bad=0, *, hour=None, slo=CHECKOUT, alerts=(), excluded=0, seen_ns=100 * DAY_NS):
    """A status of these counts, whose windows up to an hour hold `hour`; by default its own was observed whole."""
    counts = Counts(good, bad, excluded)
    short = counts if hour is None else hour
    found = assess(slo, None, lambda size_ns: counts if size_ns > HOUR_NS else short, {}, NOW_NS - seen_ns, NOW_NS)
    return replace(found, alerts=tuple(alerts))


def step_of(policy, *arguments, **more):
    return verdict(policy, status_of(*arguments, **more)).step


def last(*steps):
    """A policy of these steps, written, and one that always applies."""
    return parse_policy([*steps, {"name": "otherwise"}], PLACE)


@pytest.mark.parametrize(
    ("good", "bad", "step", "allowed"),
    [
        (1000, 0, "free", True),
        (3997, 3, "free", True),  # exactly a quarter is left: not less
        (39_969, 31, "careful", True),
        (998_002, 999, "careful", True),  # a thousandth of an event is left
        (999, 1, "frozen", False),  # exactly spent
        (99, 1, "frozen", False),
    ],
)
def test_the_default_policy_by_the_budget_left(good, bad, step, allowed):
    found = verdict(DEFAULT_POLICY, status_of(good, bad))
    assert (found.step, found.allowed, found.data) == (step, allowed, True)


def test_the_default_policy_denies_while_a_page_fires_and_not_for_a_ticket():
    assert step_of(DEFAULT_POLICY, 1000, alerts=[TICKET]) == "free"
    found = verdict(DEFAULT_POLICY, status_of(1000, alerts=[TICKET, PAGE]))
    assert (found.step, found.allowed) == ("on-fire", False)
    assert "firing: page-fast" in found.because
    assert step_of(DEFAULT_POLICY, 999, 1, alerts=[PAGE]) == "frozen"


@pytest.mark.parametrize("state", ["pending", "resolved"])
def test_only_what_fires_counts(state):
    assert step_of(DEFAULT_POLICY, 1000, alerts=[PAGE | {"state": state}]) == "free"


def test_alerts_by_severity_and_by_name_inhibited_or_not():
    by_severity, by_name = (last({"name": "hit", "when": {"alert": word}}) for word in ("ticket", "ticket-slow"))
    for policy in (by_severity, by_name):
        assert step_of(policy, 1000, alerts=[TICKET]) == "hit"
        assert step_of(policy, 1000, alerts=[PAGE]) == "otherwise"


def test_without_data_it_is_no_whatever_the_steps_say():
    free = parse_policy([{"name": "free"}], PLACE)
    for policy in (DEFAULT_POLICY, free):
        found = verdict(policy, status_of(excluded=7))
        assert (found.step, found.allowed, found.data) == ("no-data", False, False)
        assert found.because == "no valid events in 30d, 7 excluded"


def test_a_step_may_speak_of_no_data_and_of_nothing_else():
    policy = last({"name": "new", "when": {"no_data": True}, "message": "not in use yet"})
    found = verdict(policy, status_of())
    assert (found.step, found.allowed, found.message, found.data) == ("new", True, "not in use yet", False)
    assert step_of(policy, 1) == "otherwise"


def test_a_policy_of_no_steps_lets_nothing_out():
    found = verdict(Policy(()), status_of(1000))
    assert (found.step, found.allowed, found.data) == ("no-step", False, True)


def test_burn_is_strictly_above_and_over_its_window():
    policy = last({"name": "fast", "when": {"burn": {"over": "60m", "above": 2}}, "releases": "deny"})
    assert policy.steps[0].when.burn == ("1h", Fraction(2))
    assert step_of(policy, 10_000, hour=Counts(998, 2)) == "otherwise"  # exactly 2
    found = verdict(policy, status_of(10_000, hour=Counts(997, 3)))
    assert (found.step, found.allowed) == ("fast", False)
    assert "burn rate 3 over 1h (asked: > 2)" in found.because
    assert step_of(policy, 10_000, hour=Counts()) == "otherwise"


def test_all_conditions_of_a_step_must_hold():
    policy = last({"name": "both", "when": {"remaining": "< 50%", "alert": "page"}, "releases": "deny"})
    assert step_of(policy, 9994, 6, alerts=[PAGE]) == "both"
    assert step_of(policy, 9994, 6) == "otherwise"
    assert step_of(policy, 9999, 1, alerts=[PAGE]) == "otherwise"


def test_the_first_step_that_holds_applies():
    ladder = [{"name": f"s{number}", "when": {"remaining": f"< {number}0%"}} for number in (2, 5, 9)]
    policy = last(*ladder)
    assert [step_of(policy, 10_000 - bad, bad) for bad in (0, 2, 6, 9)] == ["otherwise", "s9", "s5", "s2"]


def test_the_reason_has_the_exact_numbers():
    assert verdict(DEFAULT_POLICY, status_of(9988, 12)).because == (
        "12 of 10 allowed bad events spent, -20.00% of the budget left (asked: <= 0%)"
    )
    assert verdict(DEFAULT_POLICY, status_of(1233, 1)).because == (
        "1 of 1.234 allowed bad events spent, 18.96% of the budget left (asked: < 25%)"
    )
    third = SLO("third", target=Fraction(1, 3))
    assert verdict(DEFAULT_POLICY, status_of(2, 2, slo=third)).because.startswith("2 of 8/3 allowed bad events")


def test_slices_are_told_in_whole_ones():
    sliced = SLO("sliced", target="90%", budgeting="ratio_timeslices", alerts="off")
    assert sliced.slices == Slices(RATIO_TIMESLICES, 5 * MINUTE_NS)
    found = verdict(DEFAULT_POLICY, status_of(19 * RATIO_PARTS, RATIO_PARTS // 2 * 2, slo=sliced))
    assert found.because.startswith("1 of 2 allowed bad slices spent, 50.00%")


# ── a window that is not full ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("good", "bad", "seen_ns", "step"),
    [
        (99, 1, 60 * SECOND_NS, "free"),
        (99, 1, 30 * DAY_NS - 1, "frozen"),
        (99, 1, 30 * DAY_NS, "frozen"),
        (97, 3, DAY_NS, "frozen"),  # 3,000 come in the window, so 3 may fail: exactly spent
        (97, 3, DAY_NS - 1, "careful"),
        (1_996, 4, 15 * DAY_NS, "frozen"),  # of 4 that may fail
        (1_998, 3, 15 * DAY_NS, "free"),
        (0, 1, 1, "free"),
    ],
)
def test_a_window_that_is_not_full_is_judged_by_the_budget_of_all_of_it(good, bad, seen_ns, step):
    found = verdict(DEFAULT_POLICY, status_of(good, bad, seen_ns=seen_ns))
    assert (found.step, found.allowed, found.data) == (step, step != "frozen", True)


def test_one_failure_in_the_first_minute_of_a_month_stops_nothing():
    monthly = SLO("monthly", target="99.9%", calendar="month", timezone="America/New_York")
    start_ns = monthly.period.bounds(NOW_NS)[0]
    counts = Counts(99, 1)
    found = assess(monthly, None, lambda _: counts, {}, start_ns - 90 * DAY_NS, start_ns + 60 * SECOND_NS)
    assert found.budget.remaining < 0  # by what came so far
    said = verdict(DEFAULT_POLICY, found)
    assert (said.step, said.allowed) == ("free", True)
    assert said.because == (
        "1 of 4464 allowed bad events of the month at this traffic spent, 99.97% of the budget left"
    )


@pytest.mark.parametrize(
    ("good", "bad", "seen_ns", "text"),
    [
        (1_428, 12, DAY_NS, "12 of 43.2 allowed bad events of 30d at this traffic spent, 72.22% of the budget left"),
        (999, 1, 7 * HOUR_NS, "1 of 102.85 allowed bad events of 30d at this traffic spent, 99.02% of"),  # 720/7
        (
            0,
            1,
            29 * DAY_NS,
            "1 of 0.001034 allowed bad events of 30d at this traffic spent, -96566.67% of",
        ),  # 30/29,000
        (1_428, 12, 30 * DAY_NS, "12 of 1.44 allowed bad events spent, -733.34% of the budget left"),
    ],
)
def test_what_is_projected_is_said_to_be_and_rounded_down(good, bad, seen_ns, text):
    assert verdict(DEFAULT_POLICY, status_of(good, bad, seen_ns=seen_ns)).because.startswith(text)


def test_all_slices_of_a_window_are_known_ahead():
    """8,640 of 5 minutes in 30 days, however few have come."""
    sliced = SLO("sliced", target="90%", budgeting="ratio_timeslices", alerts="off")
    found = verdict(DEFAULT_POLICY, status_of(0, RATIO_PARTS, slo=sliced, seen_ns=HOUR_NS))
    assert (found.step, found.because) == (
        "free",
        "1 of 864 allowed bad slices of 30d spent, 99.88% of the budget left",
    )


def test_without_data_a_window_that_is_not_full_is_a_no_too():
    assert not verdict(DEFAULT_POLICY, status_of(excluded=7, seen_ns=60 * SECOND_NS)).allowed


# ── as people write it ─────────────────────────────────────────────────────────────────────────────────────────────
def test_nothing_written_is_the_default_policy():
    assert parse_policy(None, PLACE) == DEFAULT_POLICY
    assert [step.name for step in DEFAULT_POLICY.steps] == ["frozen", "on-fire", "careful", "free"]


def test_a_policy_as_written():
    policy = parse_policy(
        [
            {"name": "stop", "when": {"remaining": "<= 0"}, "releases": "deny", "message": "stop"},
            {"name": "whole", "when": {"remaining": ">=100%"}},
            {"name": "burning", "when": {"burn": {"over": "6h", "above": "14.4"}, "alert": "page-slow"}},
            {"name": "go", "releases": "allow"},
        ],
        PLACE,
    )
    assert policy.steps == (
        Step("stop", "stop", "deny", Condition(remaining=("<=", Fraction(0)))),
        Step("whole", when=Condition(remaining=(">=", Fraction(1)))),
        Step("burning", when=Condition(burn=("6h", Fraction(72, 5)), alert="page-slow")),
        Step("go"),
    )


REFUSED = {
    "{}": ({}, "policy: {} is no policy"),
    "off": ("off", "policy: 'off' is no policy"),
    "no steps": ([], "no policy"),
    "too many": ([{"name": f"s{n}", "when": {"no_data": True}} for n in range(17)], "17 steps are too many"),
    "no step": (["free"], r"policy\[0\]: 'free' is no step"),
    "unknown key": ([{"name": "a", "release": "deny"}], r"policy\[0\].release: unknown key 'release'. Did you mean"),
    "no name": ([{"releases": "deny"}], r"policy\[0\].name: None cannot name a step"),
    "taken name": ([{"name": "no-data"}], "cannot name a step"),
    "twins": ([{"name": "a", "when": {"alert": "page"}}, {"name": "a"}], "two steps are named 'a'"),
    "neither": ([{"name": "a", "releases": "maybe"}], "'maybe' is neither allow nor deny"),
    "message": ([{"name": "a", "message": 3}], "Write a text"),
    "long message": ([{"name": "a", "message": "x" * 301}], "301 characters"),
    "unreachable": ([{"name": "a"}, {"name": "b"}], r"policy\[1\]: it can never apply: the step 'a'"),
    "open end": ([{"name": "a", "when": {"alert": "page"}}], r"policy\[0\].when: the last step, 'a', has a condition"),
    "no condition": ([{"name": "a", "when": "< 25%"}], "'< 25%' is no condition"),
    "unknown condition": ([{"name": "a", "when": {"remain": "<1%"}}], "Did you mean 'remaining'"),
    "no comparison": ([{"name": "a", "when": {"remaining": "25%"}}], 'Write a comparison such as "< 25%"'),
    "a number": ([{"name": "a", "when": {"remaining": 0.25}}], "0.25 is no comparison"),
    "not a number": ([{"name": "a", "when": {"remaining": "< nan"}}], "is no comparison"),
    "no percent": ([{"name": "a", "when": {"remaining": "< 25"}}], 'Did you mean "< 25%"'),
    "over all": ([{"name": "a", "when": {"remaining": "> 100%"}}], "can never hold"),
    "far below": ([{"name": "a", "when": {"remaining": "< -1001"}}], "out of range"),
    "burn": ([{"name": "a", "when": {"burn": 2}}], "2 is no burn rate"),
    "half a burn": ([{"name": "a", "when": {"burn": {"over": "1h"}}}], "needs both"),
    "burn window": (
        [{"name": "a", "when": {"burn": {"over": "45m", "above": 2}}}],
        "no burn rate over 45m. Use one of",
    ),
    "no window": ([{"name": "a", "when": {"burn": {"over": "x", "above": 2}}}], "is no duration"),
    "burn share": ([{"name": "a", "when": {"burn": {"over": "1h", "above": "2%"}}}], "'2%' is no burn rate"),
    "negative burn": ([{"name": "a", "when": {"burn": {"over": "1h", "above": -2}}}], "-2 is no burn rate"),
    "alert": ([{"name": "a", "when": {"alert": True}}], "True names no alert"),
    "no data": ([{"name": "a", "when": {"no_data": False}}], "False is no condition"),
    "both": ([{"name": "a", "when": {"no_data": True, "remaining": "<0"}}], "neither a budget nor a burn rate"),
}


@pytest.mark.parametrize(("written", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_with_place_and_remedy(written, text):
    with pytest.raises(DefinitionError, match=text):
        parse_policy(written, PLACE)


def dead(written, **other):
    policy = parse_policy([{"name": "a", "when": written, "releases": "deny"}, {"name": "b"}], PLACE)
    objective = {"window_ns": 30 * DAY_NS, "slice_ns": None, "target": Fraction(999, 1000), "alerts": AlertPlan()}
    refuse_dead_steps(policy, PLACE, **(objective | other))


def test_a_step_that_could_never_hold_for_an_objective_is_refused():
    dead({"burn": {"over": "3d", "above": 999}})
    with pytest.raises(DefinitionError, match=r"policy\[0\].when.burn.over: 3d is longer than .* window, 1d"):
        dead({"burn": {"over": "3d", "above": 2}}, window_ns=DAY_NS)
    with pytest.raises(DefinitionError, match="30m is shorter than a slice"):
        dead({"burn": {"over": "30m", "above": 2}}, slice_ns=HOUR_NS)
    with pytest.raises(DefinitionError, match=r"with a target of 99\.9% no burn rate exceeds 1000"):
        dead({"burn": {"over": "1h", "above": 1000}})


def test_an_alert_s_name_must_exist_but_a_shared_policy_may_name_what_an_objective_has_not():
    for name in ("page", "ticket", "page-fast", "ticket-slow", "no-data", "budget-exhausted", "exclusion-share"):
        dead({"alert": name})
    with pytest.raises(DefinitionError, match=r"no alert is named 'page-fats'\. Did you mean 'page-fast'"):
        dead({"alert": "page-fats"})
    own = Tier("mine", "page", HOUR_NS, 5 * MINUTE_NS, Fraction(2))
    dead({"alert": "mine"}, alerts=AlertPlan((own,)))


OWN = [{"name": "half", "when": {"remaining": "< 50%"}, "releases": "deny"}, {"name": "go"}]


def test_an_objective_takes_its_policy_along():
    slo = SLO("checkout", policy=OWN)
    back = Definition.from_json(json.loads(json.dumps(slo.definition())))
    assert back.policy == slo.release_policy == parse_policy(OWN, PLACE)
    assert back.meaning == SLO("checkout").meaning
    old = {key: value for key, value in slo.definition().items() if key != "policy"}
    assert Definition.from_json(old).policy == DEFAULT_POLICY
    with pytest.raises(DefinitionError, match="saved definition: it cannot be read"):
        Definition.from_json(old | {"policy": [{"name": "half", "when": {"remaining": "< 50%"}}]})
    with pytest.raises(DefinitionError, match=r"SLO 'checkout'.policy\[0\].when.burn.over: 3d is longer"):
        SLO(
            "checkout", window="1d", policy=[{"name": "a", "when": {"burn": {"over": "3d", "above": 1}}}, {"name": "b"}]
        )


YAML = """\
policy:
  - {name: half, when: {remaining: "< 50%"}, releases: deny}
  - name: go
slos:
  - name: one
  - name: two
    policy: [{name: whatever}]
"""


def loaded(tmp_path, text):
    (tmp_path / "slo.yaml").write_text(text)
    return load(tmp_path / "slo.yaml").slos


def test_a_configuration_s_policy_is_of_all_that_have_none(tmp_path):
    one, two = loaded(tmp_path, YAML)
    assert [step.name for step in one.release_policy.steps] == ["half", "go"]
    assert [step.name for step in two.release_policy.steps] == ["whatever"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("< 50%", "< half", r"slo.yaml:2:36: file.policy\[0\].when.remaining: '< half' is no comparison"),
        ("name: whatever", "nam: whatever", r"slo.yaml:7:15: .*unknown key 'nam'"),
        (
            'remaining: "< 50%"',
            "burn: {over: 1h, above: 1000}",
            r"slo.yaml:5:5: SLO 'one'.policy.*no burn rate exceeds",
        ),
    ],
)
def test_what_is_wrong_with_it_names_line_and_column(tmp_path, old, new, text):
    with pytest.raises(DefinitionError, match=text):
        loaded(tmp_path, YAML.replace(old, new))


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("25%", Fraction(1, 4)),
        ("25 %", Fraction(1, 4)),
        (" -0.5 ", Fraction(-1, 2)),
        ("1/3", Fraction(1, 3)),
        (0.1, Fraction(1, 10)),
        (1e-05, Fraction(1, 100_000)),
        (Decimal("14.40"), Fraction(72, 5)),
        (Fraction(2, 7), Fraction(2, 7)),
        (3, Fraction(3)),
        *(
            (no, None)
            for no in (True, None, "", "%", "x", "1/0", "1,5", "1e999", float("nan"), float("inf"), [], "1e-15")
        ),
    ],
)
def test_numbers_are_read_exactly(written, number):
    assert exact_number(written) == number


RATIOS = st.fractions(min_value=-1000, max_value=Fraction(99, 100), max_denominator=10**6)
CONDITIONS = st.builds(
    Condition,
    st.none() | st.tuples(st.sampled_from(["<", "<=", ">", ">="]), RATIOS),
    st.none() | st.tuples(st.sampled_from(["5m", "1h", "3d"]), st.fractions(0, 1000, max_denominator=10**6)),
    st.sampled_from([None, "page", "page-fast"]),
) | st.just(Condition(no_data=True))
STEPS = st.lists(
    st.tuples(CONDITIONS.filter(lambda when: not when.always), st.sampled_from(["allow", "deny"])), max_size=5
)


def policy_of(written):
    steps = [Step(f"s{number}", "", releases, when) for number, (when, releases) in enumerate(written)]
    return Policy((*steps, Step("last", "so it is")))


@given(STEPS)
def test_json_gives_the_same_policy_back(written):
    policy = policy_of(written)
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_a_damaged_policy_is_no_policy():
    with pytest.raises(DefinitionError, match="saved policy"):
        Policy.from_json([{"name": "a", "when": {"weather": "fine"}}])


@given(STEPS, st.integers(0, 10**6), st.integers(0, 10**4), st.just(40 * DAY_NS) | st.integers(1, 40 * DAY_NS))
def test_the_step_is_the_first_that_holds_by_plain_arithmetic(written, good, bad, seen_ns):
    policy, valid = policy_of(written), good + bad
    window_ns = 30 * DAY_NS
    seen_of_it_ns = min(seen_ns, window_ns)
    compare = {"<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b}

    def holds(when):
        if when.no_data or not valid:
            return when.no_data and not valid
        ok = when.alert is None  # nothing fires
        if when.remaining:  # remaining / allowed OP ratio, without dividing
            sign, ratio = when.remaining
            whole = valid * window_ns  # as many a second go on to come
            ok = ok and compare[sign](whole - 1000 * bad * seen_of_it_ns, ratio * whole)
        return ok and (not when.burn or 1000 * bad > when.burn[1] * valid)

    expected = next((step.name for step in policy.steps if holds(step.when)), "no-data")
    found = verdict(policy, status_of(good, bad, seen_ns=seen_ns))
    assert (found.step, found.data) == (expected, valid > 0)


def test_a_verdict_as_json():
    found = Verdict("frozen", False, "stop", "why")
    assert found.to_json() == {
        "step": "frozen",
        "releases": "deny",
        "message": "stop",
        "because": "why",
        "data": True,
    }
