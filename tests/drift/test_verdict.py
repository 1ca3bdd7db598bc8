"""Verdicts: false alarms, detection, and too little data, on drawn features with fixed seeds.

Rates are simulated in full by `python -m benchmarks drift`; here as many times as a second allows.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.drift import verdict
from otelslo.drift.baseline import Baseline
from otelslo.drift.chance import homogeneity, tail
from otelslo.drift.divergence import Measure, psi
from otelslo.drift.verdict import DRIFTED, NOT_ENOUGH_DATA, STEADY, Pair, join, judge

PSI = Measure.parse("psi")
MEASURES = [
    PSI,
    Measure.parse("js", unit="bits"),
    Measure.parse("kl", unit="nats", direction="live_from_baseline"),
    Measure.parse("kl", unit="bits", direction="baseline_from_live"),
]
TENTH, QUARTER = Fraction(1, 10), Fraction(1, 4)
NO_LIMIT = Fraction(1, 10**9)  # all is left to chance
EVEN = np.full(10, 0.1)


def pair_of(chance, before, after, baseline_rows=10_000, rows=1_000):
    """A feature whose values were drawn from normal distributions (mean, deviation) before and after."""
    baseline = Baseline.of("x", chance.normal(*before, baseline_rows), "numeric")
    return Pair(baseline.counts, tuple(baseline.bins.count(chance.normal(*after, rows)).tolist()))


def pairs(chance, features, rows, after=(0, 1), baseline_rows=10_000):
    return {f"f{number}": pair_of(chance, (0, 1), after, baseline_rows, rows) for number in range(features)}


def alarms(found):
    return [name for name, one in found.items() if one.state == DRIFTED]


@pytest.mark.parametrize(("features", "times"), [(1, 600), (20, 40)])
@pytest.mark.parametrize(("rows", "most"), [(100, 0.03), (1_000, 0.015), (10_000, 0.015)])
def test_false_alarms_are_rare_even_where_only_chance_is_asked(features, times, rows, most):
    chance = np.random.default_rng([rows, features])
    alarmed = dict.fromkeys((NO_LIMIT, TENTH), 0)
    for _ in range(times):
        drawn = pairs(chance, features, rows, baseline_rows=2_000)
        for limit in alarmed:
            alarmed[limit] += bool(alarms(judge(drawn, PSI, limit)))
    assert alarmed[TENTH] <= most * times
    luck = 3 * (most * times) ** 0.5  # so few draws say no more
    assert alarmed[NO_LIMIT] <= most * times + luck


def test_thin_bins_keep_chance_at_its_level_far_in_the_tail():
    """At the level that each of twenty features is judged by, with a feature that is nearly always 0: a twentieth of
    the rows is spread over ten bins. Pearson's statistic is beyond it nearly twice as often."""
    chance, shares, draws = np.random.default_rng(11), np.array([0.95, *[0.005] * 10]), 60_000
    sides = zip(chance.multinomial(7_500, shares, draws), chance.multinomial(1_000, shares, draws), strict=True)
    joined = [join(Pair(tuple(map(int, e)), tuple(map(int, a)))).bins for e, a in sides]
    level = 0.01 / 20
    due, luck = level * draws, 3 * (level * draws) ** 0.5
    found = {
        name: sum(tail(statistic(one.live, one.baseline), verdict._degrees(one)) <= level for one in joined)
        for name, statistic in (("ours", homogeneity), ("Pearson's", pearson))
    }
    assert found["ours"] <= due + luck < found["Pearson's"]


def pearson(one, other):
    n, m = sum(one), sum(other)
    return sum((a * m - e * n) ** 2 / (a + e) for a, e in zip(one, other, strict=True)) / n / m


@pytest.mark.parametrize(("rows", "new"), [(100, 20), (1_000, 30), (10_000, 300), (200, 10)])
def test_a_new_value_is_seen_however_little_it_weighs_beside_the_baseline(rows, new):
    """Under a limit that it is above; its bin alone expects far fewer than five rows."""
    old = (rows - new) // 2
    found = judge({"x": Pair((50_000, 50_000, 0, 0), (old, old, new, 0))}, PSI, Fraction(1, 20))["x"]
    assert (found.state, found.bins) == (DRIFTED, 3)
    assert found.value == pytest.approx(psi((50_000, 50_000, 0), (old, old, new)))


def test_a_rest_within_chance_is_no_bin():
    found = judge({"x": Pair((5_000, 5_000, 1, 0), (500, 500, 1, 0))}, PSI, TENTH)["x"]
    assert (found.state, found.bins) == (STEADY, 2)


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_a_million_rows_without_real_drift_are_steady(measure):
    chance = np.random.default_rng(3)
    found = judge(pairs(chance, 3, 1_000_000, after=(0.05, 1), baseline_rows=100_000), measure, Fraction(1, 20))
    assert {one.state for one in found.values()} == {STEADY}
    assert min(one.p_value for one in found.values()) < 1e-4, "the difference is real, and too small to matter"


def shifted(index):
    """Shares whose PSI against even ones is `index`, by tilting them."""
    low, high = 0.0, 1.0
    for _ in range(60):
        tilt = (low + high) / 2
        shares = EVEN * (1 + tilt * np.linspace(-1, 1, 10))
        low, high = (tilt, high) if ((shares - EVEN) * np.log(shares / EVEN)).sum() < index else (low, tilt)
    return shares


@pytest.mark.parametrize(("rows", "limit"), [(1_000, TENTH), (1_000, Fraction(15, 100)), (10_000, Fraction(2, 10))])
def test_a_psi_of_a_quarter_is_found(rows, limit):
    chance, shares, missed = np.random.default_rng(5), shifted(0.25), 0
    for _ in range(200):
        drawn = {f"f{n}": Pair(*_multinomial(chance, EVEN, EVEN, rows)) for n in range(19)}
        drawn["moved"] = Pair(*_multinomial(chance, EVEN, shares, rows))
        missed += "moved" not in alarms(judge(drawn, PSI, limit))
    assert missed <= 2


def _multinomial(chance, before, after, rows, baseline_rows=10_000):
    return tuple(chance.multinomial(baseline_rows, before).tolist()), tuple(chance.multinomial(rows, after).tolist())


@pytest.mark.parametrize("measure", MEASURES, ids=str)
@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
def test_an_outlier_neither_hides_drift_nor_makes_one(measure, rows):
    chance = np.random.default_rng(7)
    for after, state in (((0.5, 1), DRIFTED), ((0, 1), None)):
        baseline = Baseline.of("x", chance.normal(size=10_000), "numeric")
        live = chance.normal(*after, rows)
        without, with_one = (
            judge({"x": Pair(baseline.counts, tuple(baseline.bins.count(column).tolist()))}, measure, Fraction(1, 50))
            for column in (live, np.append(live, 1e6))
        )
        assert without["x"].state == with_one["x"].state
        assert state is None or with_one["x"].state == state
        assert with_one["x"].corrected == pytest.approx(without["x"].corrected, abs=0.01)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=2, max_size=20),
    st.sampled_from(MEASURES),
    st.fractions("1/1000", 1),
)
def test_both_conditions_and_nothing_else_make_a_drift(cells, measure, limit):
    pair = Pair(*(tuple(side) for side in zip(*cells, strict=True)))
    found = judge({"x": pair}, measure, limit)["x"]
    assert found.live_rows == sum(pair.live)
    if found.value is None:
        assert found.state == NOT_ENOUGH_DATA
        assert min(sum(pair.live), sum(pair.baseline)) < verdict.LEAST_ROWS
        return
    both = found.value - found.bias > limit and found.p_value <= found.level
    assert (found.state == DRIFTED) == both
    if found.state == STEADY:
        assert found.live_rows >= found.rows_needed


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=20))
def test_joined_bins_hold_all_rows_and_are_not_thin(cells):
    pair = Pair(*(tuple(side) for side in zip(*cells, strict=True)))
    joined = join(pair).bins
    rows = sum(pair.live), sum(pair.baseline)
    if not joined.live:
        assert not min(rows) or min(rows) < verdict.LEAST_EXPECTED
        return
    assert (sum(joined.live), sum(joined.baseline)) == rows
    for a, e in zip(joined.live, joined.baseline, strict=True):
        assert Fraction((a + e) * min(rows), sum(rows)) >= verdict.LEAST_EXPECTED


def test_thin_bins_join_each_other_and_what_is_left_is_a_rest():
    pair = Pair((0, 50, 1, 1, 50, 2, 0), (1, 50, 4, 4, 40, 0, 1))  # the pair of 1 and 4 is thin, and so is the rest
    assert join(pair).bins == Pair((50, 50, 4), (50, 40, 10)), "a rest that is not thin is a bin"
    beside = join(Pair((5_000, 0, 5_000, 1, 1), (50, 3, 47, 0, 0)))
    assert (beside.bins, beside.rest) == (Pair((5_000, 5_002), (50, 50)), (2, 3))
    assert beside.told_by(0.01) == Pair((5_000, 5_000, 2), (50, 47, 3))
    assert beside.told_by(1e-9) == beside.bins
    runs = join(Pair((1_000, 30, 30, 1_000, 30, 1_000), (100, 1, 1, 100, 1, 100)))
    assert (runs.bins.baseline, runs.rest) == ((1_000, 60, 1_000, 1_030), (30, 1)), "a run of two is thick enough"


def test_new_values_are_seen_however_few_the_baseline_had():
    found = judge({"x": Pair((900, 100, 0, 0), (450, 50, 500, 0))}, PSI, TENTH)["x"]
    assert found.state == DRIFTED
    assert found.value == psi((900, 100, 0), (450, 50, 500))


def test_few_rows_are_not_called_steady():
    few = judge({"x": Pair((500, 500), (50, 49))}, PSI, TENTH)["x"]
    assert (few.state, few.reason, few.value) == (NOT_ENOUGH_DATA, "fewer than 100 rows came", None)
    assert judge({"x": Pair((50, 49), (500, 500))}, PSI, TENTH)["x"].reason == "fewer than 100 rows in the baseline"
    assert judge({"x": Pair((0, 0), (0, 0))}, PSI, TENTH)["x"].state == NOT_ENOUGH_DATA
    more = judge({"x": Pair((1000,) * 10, (10,) * 10)}, PSI, TENTH)["x"]
    assert more.state == NOT_ENOUGH_DATA
    assert more.reason == f"a divergence at the limit is told from chance from {more.rows_needed} rows on"
    enough = (-(-more.rows_needed // 10),) * 10
    assert judge({"x": Pair((1000,) * 10, enough)}, PSI, TENTH)["x"].state == STEADY
    plain = judge({"x": Pair((1000,) * 10, (100, *[0] * 9))}, PSI, TENTH)["x"]
    assert plain.state == DRIFTED, "what is plain is said of few rows too"


def test_a_small_baseline_is_said_to_be_the_cause():
    found = judge({"x": Pair((20,) * 10, (10_000,) * 10)}, PSI, Fraction(1, 100))["x"]
    assert (found.state, found.rows_needed) == (NOT_ENOUGH_DATA, None)
    assert "baseline" in found.reason


def test_what_is_nearly_always_the_same_is_steady():
    found = judge({"x": Pair((0, 9_997, 3, 0), (0, 100_000, 20, 0))}, PSI, TENTH)["x"]
    assert (found.state, found.bins, found.value) == (STEADY, 1, 0)


def test_holms_levels_by_hand():
    p_values = {"a": 0.02, "b": 0.001, "c": 0.004, "d": 0.9}
    levels = verdict._holm(p_values, 0.01)
    assert levels == pytest.approx({"b": 0.0025, "c": 0.01 / 3, "a": 0.01 / 3, "d": 0.01 / 3})
    assert [name for name in p_values if p_values[name] <= levels[name]] == ["b"]
    assert verdict._holm({"a": 0.001, "b": 0.009}, 0.01) == pytest.approx({"a": 0.005, "b": 0.01})


def test_more_features_ask_for_more():
    one = Pair((1000,) * 10, (100, 100, 100, 100, 100, 100, 100, 100, 65, 135))
    still = Pair((1000,) * 10, (100,) * 10)
    alone = judge({"x": one}, PSI, NO_LIMIT)["x"]
    among = judge({"x": one} | {f"s{n}": still for n in range(19)}, PSI, NO_LIMIT)["x"]
    assert among.level == pytest.approx(alone.level / 20)
    assert among.p_value == alone.p_value


@pytest.mark.parametrize(
    ("limit", "false_alarm"), [(Fraction(0), Fraction(1, 100)), (TENTH, Fraction(0)), (TENTH, Fraction(1))]
)
def test_limits_that_cannot_be_meant(limit, false_alarm):
    with pytest.raises(ValueError, match=r"limit|rate"):
        judge({}, PSI, limit, false_alarm=false_alarm)


@pytest.mark.parametrize("sides", [((1, 2), (1,)), ((1, -2), (1, 1))])
def test_counts_that_are_none(sides):
    with pytest.raises(ValueError, match=r"bins|negative"):
        Pair(*sides)
