"""Limits: how they are written, and that met, breached and no data are told apart exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo import SLO, DefinitionError, Limit
from otelslo.config import given_or_loaded, load
from otelslo.errors import BadValue
from otelslo.limit import exact_number, parse_limit
from otelslo.limits import Observation, assess, findings, observed, parse_observation
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS

NOW_NS = 1_700_000_000 * SECOND_NS
AGE, NUMBER = Limit("age", limit="90d"), Limit("divergence", limit=0.1)


def age():
    return timedelta(days=3)


async def later():
    return 1


def told(limit, value=None, since=None, before=None, at_ns=NOW_NS):
    """What is kept of an observation."""
    return observed(limit, before, parse_observation(limit, value, since, at_ns))


def stands(limit, seen, now_ns=NOW_NS):
    one = assess(limit, seen, now_ns)
    return one.state, one.since_wall_ns


# ── as it is written ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("written", "unit", "bound"),
    [
        ("90d", "s", 90 * DAY_NS),
        ("1h30m", "s", 90 * MINUTE_NS),
        (timedelta(days=7), "s", 7 * DAY_NS),
        (0.1, "1", Fraction(1, 10)),
        ("0.1", "1", Fraction(1, 10)),
        (Decimal("0.10"), "1", Fraction(1, 10)),
        ("10%", "1", Fraction(1, 10)),
        (Fraction(1, 3), "1", Fraction(1, 3)),
        (0, "1", 0),
        ("-2.5e-3", "1", Fraction(-1, 400)),
        (1e300, "1", Fraction(10) ** 300),
    ],
)
def test_a_limit_is_a_number_or_a_duration_exactly(written, unit, bound):
    assert parse_limit(written) == (unit, bound)
    limit = Limit("a", limit=written)
    assert (limit.unit, limit.bound) == (unit, bound)
    assert Limit.from_json(limit.definition()).definition() == limit.definition()


@pytest.mark.parametrize(
    ("arguments", "place", "says"),
    [
        ({"limit": "soon"}, "limit 'a'.limit", "no limit"),
        ({"limit": "3 months"}, "limit 'a'.limit", "no fixed length"),
        ({"limit": "0s"}, "limit 'a'.limit", "zero"),
        ({"limit": None}, "limit 'a'.limit", "no number"),
        ({"limit": True}, "limit 'a'.limit", "no number"),
        ({"limit": float("inf")}, "limit 'a'.limit", "no finite number"),
        ({"limit": float("nan")}, "limit 'a'.limit", "no finite number"),
        ({"limit": Decimal("1e999999999")}, "limit 'a'.limit", "out of range"),
        ({"limit": 10**400}, "limit 'a'.limit", "out of range"),
        ({"limit": 1, "severity": "loud"}, "limit 'a'.severity", "page or ticket"),
        ({"limit": 1, "stale_after": "0s"}, "limit 'a'.stale_after", "zero"),
        ({"limit": 1, "stale_after": "1m", "value": age}, "limit 'a'.stale_after", "before the value is asked"),
        ({"limit": 1, "every": "5m"}, "limit 'a'.every", "nobody to ask"),
        ({"limit": 1, "every": "500ms", "value": age}, "limit 'a'.every", "too often"),
        ({"limit": 1, "value": 3}, "limit 'a'.value", "a function"),
        ({"limit": 1, "value": "nowhere:age"}, "limit 'a'.value", "cannot be imported"),
        ({"limit": 1, "value": "os:sep"}, "limit 'a'.value", "not callable"),
        ({"limit": 1, "value": later}, "limit 'a'.value", "async"),
        ({"limit": 1, "labels": {"slo": "x"}}, "limit 'a'.labels.slo", "cannot be a label"),
        ({"limit": 1, "runbook_url": "wiki"}, "limit 'a'.runbook_url", "no address"),
        ({"limit": 1, "notify": [""]}, "limit 'a'.notify[0]", "empty"),
        ({"limit": 1, "description": 1}, "limit 'a'.description", "a number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(arguments, place, says):
    with pytest.raises(DefinitionError) as refused:
        Limit("a", **arguments)
    assert refused.value.place == place
    assert says in str(refused.value)


def test_a_bad_name_is_refused():
    with pytest.raises(DefinitionError, match=r"limit 'a b'.*cannot be a name"):
        Limit("a b", limit=1)


def test_what_is_asked_for_goes_stale_by_itself_and_what_is_told_stays():
    assert Limit("a", limit=1).stale_after_ns is None
    asked = Limit("a", limit="90d", value=age, every="5m")
    assert (asked.every_ns, asked.stale_after_ns) == (5 * MINUTE_NS, 50 * MINUTE_NS)
    assert Limit("a", limit="90d", value=age, stale_after="2m").stale_after_ns == 2 * MINUTE_NS
    assert asked.definition()["value"].endswith(":age")
    assert Limit("a", limit=1, value="time:time").ask is not None


def test_a_saved_limit_that_is_damaged_is_refused():
    whole = NUMBER.definition()
    for damage in ({"limit_den": 0}, {"limit_num": "x"}, {"unit": None, "limit_num": None}, {"about": 1}):
        with pytest.raises(DefinitionError):
            Limit.from_json(whole | damage)


# ── in a configuration ─────────────────────────────────────────────────────────────────────────────────────────────
YAML = """\
slos:
  - name: checkout
channels:
  ops: {log: {}}
limits:
  - name: fraud-model-age
    limit: 90d
    stale_after: 2d
    owner: ml
    notify: [ops]
  - name: weekly-divergence
    limit: 0.1
    severity: page
"""


@pytest.fixture
def write(tmp_path):
    def writing(text, name="slo.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return writing


def test_limits_stand_beside_slos_in_yaml(write):
    found = load(write(YAML)).limits
    assert [(one.name, one.text, one.severity, one.notify) for one in found] == [
        ("fraud-model-age", "90d", "ticket", ("ops",)),
        ("weekly-divergence", "0.1", "page", None),
    ]
    assert found[0].stale_after_ns == 2 * DAY_NS
    assert found[0].about.owner == "ml"
    assert found[1].bound == Fraction(1, 10)


def test_a_file_may_have_limits_only(write):
    found = load(write("limits:\n  - {name: age, limit: 90d}\n"))
    assert (found.slos, [limit.name for limit in found.limits]) == ((), ["age"])


@pytest.mark.parametrize(
    ("before", "after", "where", "says"),
    [
        ("limit: 90d", "limit: long", "7:12", "no limit"),
        ("limit: 90d", "limt: 90d", "7:5", "Did you mean 'limit'?"),
        ("    limit: 90d\n", "", "6:5", "no limit"),
        ("name: fraud-model-age", "name: Checkout", "6:11", "the SLO 'checkout'"),
        ("name: weekly-divergence", "name: Fraud-Model-Age", "11:11", "the limit 'fraud-model-age'"),
        ("notify: [ops]", "notify: [opps]", "10:14", "Did you mean 'ops'?"),
        ("  - name: weekly-divergence\n    limit: 0.1\n    severity: page\n", "  - weekly\n", "11:5", "no limit"),
    ],
)
def test_a_bad_limit_is_refused_by_line_and_column(write, before, after, where, says):
    path = write(YAML.replace(before, after, 1))
    with pytest.raises(DefinitionError) as refused:
        load(path)
    assert refused.value.place == f"{path}:{where}"
    assert says in str(refused.value)


@pytest.mark.parametrize("limits", ["limits: 3", "limits: []", "limits: {a: 1}"])
def test_what_is_no_list_of_limits_is_refused(write, limits):
    with pytest.raises(DefinitionError, match="no list of limits"):
        load(write(f"slos: [{{name: a}}]\n{limits}\n"))


def test_limits_stand_beside_slos_in_python_too(write):
    python = (
        'from otelslo import SLO, Limit\nslos = [SLO("a"), Limit("c", limit=1)]\nlimits = [Limit("b", limit="1d")]\n'
    )
    found = load(write(python, "slo.py"))
    assert ([slo.name for slo in found.slos], [limit.name for limit in found.limits]) == (["a"], ["c", "b"])
    with pytest.raises(DefinitionError, match="no list of Limit objects"):
        load(write(python.replace("limits = [", "limits = [3, "), "other.py"))
    with pytest.raises(DefinitionError, match="named like the SLO 'a'"):
        load(write(python.replace('Limit("b"', 'Limit("A"'), "twins.py"))


def test_limits_are_given_to_an_engine_beside_its_slos():
    found = given_or_loaded([SLO("a")], [AGE])
    assert (len(found.slos), found.limits) == (1, (AGE,))
    assert given_or_loaded([SLO("a")]).limits == ()
    with pytest.raises(DefinitionError, match="limit 1: 'age' is named like the SLO 'Age'"):
        given_or_loaded([SLO("Age")], [AGE])


# ── what is told ───────────────────────────────────────────────────────────────────────────────────────────────────
class Single(float):
    """As numpy's float32: neither its repr nor its value as a float is what it prints."""

    def __repr__(self):
        return "Single(0.1)"


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (0.1, Fraction(1, 10)),
        (3, 3),
        (Decimal("0.3"), Fraction(3, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        (Single(0.1), Fraction(1, 10)),
        (5e-324, Fraction(5, 10**324)),
        (-0.0, 0),
    ],
)
def test_a_value_is_what_it_prints(value, exact):
    assert exact_number(value) == exact


def test_numpy_s_numbers_are_numbers():
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    for value in (numpy.float64(0.1), numpy.float32(0.1), numpy.float16(0.1)):
        assert exact_number(value) == Fraction(1, 10)
    assert exact_number(numpy.int64(7)) == 7
    with pytest.raises(BadValue):
        exact_number(numpy.float32("nan"))
    with pytest.raises(BadValue):
        exact_number(numpy.bool_(True))


@pytest.mark.parametrize(
    ("limit", "value", "since", "says"),
    [
        (NUMBER, "0.1", None, "no number"),
        (NUMBER, timedelta(days=1), None, "no number"),
        (NUMBER, True, None, "no number"),
        (NUMBER, float("nan"), None, "no finite number"),
        (NUMBER, Decimal("Infinity"), None, "no finite number"),
        (NUMBER, Decimal("1e999999999999"), None, "out of range"),
        pytest.param(NUMBER, 10**5000, None, "out of range", id="5001 digits"),
        (NUMBER, 1j, None, "no finite number"),
        (NUMBER, None, 1_700_000_000, "since= is for ages"),
        (AGE, 12, None, "no duration"),
        (AGE, "12", None, "no duration"),
        (AGE, timedelta(days=-1), None, "negative"),
        (AGE, None, "yesterday", "no moment"),
        (AGE, None, datetime(2023, 11, 1), "no time zone"),
        (AGE, None, 1_700_200_000, "in the future"),
        (AGE, None, 1_700_000_000_000, "Unix time in seconds"),
        (AGE, None, 1e30, "out of range"),
    ],
)
def test_what_cannot_be_compared_is_refused(limit, value, since, says):
    with pytest.raises(BadValue, match=says):
        parse_observation(limit, value, since, NOW_NS)


def test_a_moment_is_the_same_however_it_is_told():
    moment = datetime(2023, 11, 1, 12, tzinfo=UTC)
    seen = [moment, moment.astimezone(timezone(timedelta(hours=-5))), 1_698_840_000, 1_698_840_000.0]
    assert {parse_observation(AGE, None, since, NOW_NS).as_of_wall_ns for since in seen} == {1_698_840_000 * SECOND_NS}
    fine = parse_observation(AGE, None, Decimal("1698840000.123456789"), NOW_NS)
    assert fine.as_of_wall_ns == 1_698_840_000_123_456_789


# ── deciding ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_reaching_a_limit_is_no_breach_and_anything_beyond_is():
    assert stands(NUMBER, told(NUMBER, 0.1)) == ("met", NOW_NS)
    assert stands(NUMBER, told(NUMBER, 0.1 + 1e-18)) == ("met", NOW_NS)  # prints as 0.1
    assert stands(NUMBER, told(NUMBER, 0.10000000000000002)) == ("breached", NOW_NS)
    assert stands(AGE, told(AGE, "90d")) == ("met", NOW_NS)
    assert stands(AGE, told(AGE, "90d1ns")) == ("breached", NOW_NS)


def test_an_age_grows_by_itself_and_is_breached_since_the_exact_moment():
    seen = told(AGE, since=NOW_NS // SECOND_NS - 80 * 86_400)
    edge_ns = NOW_NS + 10 * DAY_NS
    assert stands(AGE, seen) == ("met", NOW_NS)
    assert stands(AGE, seen, edge_ns) == ("met", NOW_NS)
    assert stands(AGE, seen, edge_ns + 1) == ("breached", edge_ns)
    assert stands(AGE, seen, edge_ns + 30 * DAY_NS) == ("breached", edge_ns)
    again = told(AGE, since=NOW_NS // SECOND_NS, before=seen, at_ns=edge_ns + DAY_NS)
    assert stands(AGE, again, edge_ns + DAY_NS) == ("met", edge_ns + DAY_NS)


def test_a_state_began_with_the_first_observation_that_says_so():
    seen = None
    for hour, value in enumerate([0.05, 0.07, 0.2, 0.3, 0.11, 0.09, 0.1]):
        seen = told(NUMBER, value, before=seen, at_ns=NOW_NS + hour * HOUR_NS)
        since = {0: 0, 1: 0, 2: 2, 3: 2, 4: 2, 5: 5, 6: 5}[hour]
        state = "breached" if 2 <= hour <= 4 else "met"
        assert stands(NUMBER, seen, seen.at_wall_ns) == (state, NOW_NS + since * HOUR_NS)


def test_without_an_observation_there_is_no_data_which_is_not_met():
    one = assess(AGE, None, NOW_NS)
    assert (one.state, one.met, one.value, one.since_wall_ns) == ("no_data", None, None, None)
    assert one.text == "nothing observed, limit 90 d"


def test_an_old_observation_is_no_data_and_a_new_one_begins_anew():
    limit = Limit("a", limit=0.1, stale_after="1d")
    seen = told(limit, 0.05)
    assert stands(limit, seen, NOW_NS + DAY_NS) == ("met", NOW_NS)
    assert stands(limit, seen, NOW_NS + DAY_NS + 1) == ("no_data", NOW_NS + DAY_NS)
    late_ns = NOW_NS + 3 * DAY_NS
    assert stands(limit, told(limit, 0.05, before=seen, at_ns=late_ns), late_ns) == ("met", late_ns)


def test_a_changed_limit_is_compared_with_what_is_known():
    seen = told(NUMBER, 0.08)
    assert stands(Limit("divergence", limit=0.05), seen) == ("breached", NOW_NS)
    assert stands(Limit("divergence", limit="90d"), seen) == ("no_data", None)


def test_a_wall_clock_that_is_set_back_makes_no_age_negative():
    seen = told(AGE, since=NOW_NS // SECOND_NS)
    one = assess(AGE, seen, NOW_NS - DAY_NS)
    assert (one.state, one.value, one.value_text) == ("met", 0, "0 s")


def test_json_has_what_a_status_has_and_nulls_for_what_a_limit_has_not():
    seen = told(AGE, since=NOW_NS // SECOND_NS - 93 * 86_400)
    found = assess(AGE, seen, NOW_NS).to_json()
    assert {key for key, value in found.items() if value is None} == {
        *("group", "target", "window", "observed_since", "good", "bad", "valid", "excluded", "sli"),
        *("budget", "burn", "stale_after_s"),
    }
    assert (found["slo"], found["kind"], found["met"], found["state"]) == ("age", "limit", False, "breached")
    assert (found["value"], found["limit"], found["unit"]) == (93 * 86_400, 90 * 86_400, "s")
    assert found["text"] == "93 d, limit 90 d"
    assert found["since"] == "2023-11-11T22:13:20.000Z"
    assert assess(AGE, None, NOW_NS).to_json()["met"] is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_shown_is_on_the_side_that_was_decided(bound, value):
    limit = Limit("a", limit=bound)
    one = assess(limit, told(limit, value), NOW_NS)
    found = one.to_json()
    assert (found["value"] > found["limit"]) is (one.state == "breached") is (value > bound)
    assert (Fraction(one.value_text) > limit.bound) is (value > bound)


@given(st.integers(1, 2**62), st.integers(0, 2**62))
def test_a_duration_is_shown_on_its_side_too(bound_ns, value_ns):
    limit = Limit("a", limit=f"{bound_ns}ns")
    seen = Observation("s", Fraction(value_ns), None, NOW_NS)
    one = assess(limit, seen, NOW_NS)
    assert (parse_limit(one.limit_text)[1]) == bound_ns
    assert (one.state == "breached") is (value_ns > bound_ns)
    if value_ns > bound_ns:
        assert parse_limit(one.value_text)[1] > bound_ns


def verdicts(limit, seen, now_ns):
    return {one.alert: one.verdict for one in findings(assess(limit, seen, now_ns))}


def test_its_alert_fires_while_it_is_breached_and_stands_still_without_data():
    page = Limit("a", limit=1, severity="page", stale_after="1h")
    assert verdicts(page, None, NOW_NS) == {"limit": "unknown", "no-data": "unknown"}
    assert verdicts(page, told(page, 1), NOW_NS) == {"limit": "quiet", "no-data": "quiet"}
    breached, silent = findings(assess(page, told(page, 2), NOW_NS))
    assert (breached.alert, breached.severity, breached.verdict) == ("limit", "page", "firing")
    assert (silent.alert, silent.severity, silent.verdict) == ("no-data", "ticket", "quiet")
    assert breached.data["text"] == "2, limit 1"
    assert verdicts(page, told(page, 2), NOW_NS + 2 * HOUR_NS) == {"limit": "unknown", "no-data": "firing"}
    assert verdicts(Limit("a", limit=1), told(page, 1), NOW_NS + 2 * HOUR_NS) == {"limit": "quiet"}
