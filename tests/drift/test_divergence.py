"""Divergences against scipy's and published values; what happens where a bin is empty."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.drift.divergence import Measure, js, kl, psi
from otelslo.errors import BadValue

distance = pytest.importorskip("scipy.spatial.distance", reason="scipy is the twin")
stats = pytest.importorskip("scipy.stats", reason="scipy is the twin")

full = st.integers(1, 10**6)
some = st.one_of(st.just(0), full)


@st.composite
def sides(draw, count=full, most=60):
    size = draw(st.integers(1, most))
    return tuple(draw(st.lists(count, min_size=size, max_size=size)) for _ in range(2))


def shares(counts):
    return [count / sum(counts) for count in counts]


@given(sides())
def test_without_empty_bins_they_are_scipys(pair):
    baseline, live = pair
    e, a = shares(baseline), shares(live)
    close = {"rel": 1e-12, "abs": 1e-12}
    both = float(stats.entropy(e, a) + stats.entropy(a, e))
    assert psi(baseline, live) == pytest.approx(both, **close)
    for unit, of_log in (("nats", math.e), ("bits", 2)):
        assert kl(live, baseline, unit=unit) == pytest.approx(float(stats.entropy(a, e, base=of_log)), **close)
        assert kl(baseline, live, unit=unit) == pytest.approx(float(stats.entropy(e, a, base=of_log)), **close)
        of_scipy = float(distance.jensenshannon(e, a, base=of_log))  # a distance; NaN where rounding makes it negative
        if not math.isnan(of_scipy):
            assert js(baseline, live, unit=unit) == pytest.approx(of_scipy**2, **close)


PUBLISHED = [
    ((1, 2, 3, 4), (1, 1, 1, 1), 0.22821740957339184, 0.12177727428716865, 0.10644013528622315, 0.02786561345727673),
    ((5, 3, 2), (4, 4, 2), 0.051082562376599076, 0.025815408455028527, 0.025267153921570557, 0.006367198333995694),
    ((1, 1, 1, 1), (2, 2, 2, 2), 0.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("baseline", "live", "index", "live_first", "baseline_first", "jensen"), PUBLISHED)
def test_published_values(baseline, live, index, live_first, baseline_first, jensen):
    assert psi(baseline, live) == pytest.approx(index, abs=1e-14)
    assert kl(live, baseline, unit="nats") == pytest.approx(live_first, abs=1e-14)
    assert kl(baseline, live, unit="nats") == pytest.approx(baseline_first, abs=1e-14)
    assert js(baseline, live, unit="nats") == pytest.approx(jensen, abs=1e-14)
    assert js(baseline, live, unit="bits") == pytest.approx(jensen / math.log(2), abs=1e-14)


@given(sides(some))
def test_empty_bins_give_a_finite_value_that_is_no_negative_one(pair):
    if not all(map(any, pair)):
        return
    assert 0 <= js(*pair, unit="bits") <= 1
    for value in (psi(*pair), kl(*pair, unit="nats"), kl(*reversed(pair), unit="nats")):
        assert 0 <= value < math.inf
    swapped = psi(*reversed(pair))
    assert psi(*pair) == pytest.approx(swapped, rel=1e-12, abs=1e-12)


def test_an_empty_side_counts_as_half_an_event_and_the_rest_stays():
    assert psi([10, 10, 0], [10, 10, 10]) == pytest.approx(psi([20, 20, 1], [20, 20, 20]), abs=1e-15)
    assert psi([10, 10, 0], [10, 10, 0]) == 0
    assert psi([10, 10, 0, 5], [7, 3, 0, 9]) == psi([10, 10, 5], [7, 3, 9]), "a bin that neither fills is none"


def test_what_is_seen_is_farther_than_what_might_have_been():
    values = [psi([1000, 1000, 0], [500, 500, seen]) for seen in (0, 1, 10, 100)]
    assert values == sorted(values)


def test_small_differences_of_many_rows_keep_their_digits():
    rows, step = 10**15, 10**3
    exact = 2 * (2 * step / (4 * rows)) * math.log1p(2 * step / (2 * rows - step))
    assert psi([rows, rows], [rows + step, rows - step]) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("baseline", "live", "says"),
    [([1, 2], [1], "2 and 1 bins"), ([0, 0], [1, 2], "no data"), ([1, 2], [0, 0], "no data"), ([3, -1], [1, 1], "neg")],
)
def test_what_cannot_be_compared_is_refused(baseline, live, says):
    with pytest.raises(ValueError, match=says):
        psi(baseline, live)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "kl"}, "not said in which unit KL is. Write measure: {name: kl, direction: live_from_base.*or bits"),
        (
            {"name": "kl", "unit": "bits"},
            "in which direction KL is. Write measure: {name: kl, direction: live_from_baseline, unit: bits}, or",
        ),
        ({"name": "kl", "unit": "bits", "direction": "up"}, "'up' is no direction"),
        (
            {"name": "kl", "direction": "baseline_from_live"},
            "Write measure: {name: kl, direction: baseline_from_live, unit",
        ),
        ({"name": "js"}, "in which unit JS is. Write measure: {name: js, unit: nats}, or bits"),
        ({"name": "js", "unit": "bans"}, "unit: nats}, or bits"),
        ({"name": "js", "unit": "bits", "direction": "live_from_baseline"}, "same in both"),
        ({"name": "js_distance"}, "limit squared"),
        ({"name": "psi", "unit": "bits"}, "PSI is in nats"),
        ({"name": "pis"}, "Did you mean 'psi'"),
        ({"name": ["psi"]}, "no divergence"),
    ],
)
def test_a_measure_says_all_that_its_number_depends_on(arguments, says):
    with pytest.raises(BadValue, match=says):
        Measure.parse(**arguments)


def test_measures_by_name():
    e, a = (10, 20, 30), (30, 20, 10)
    assert Measure.parse("psi").value(e, a) == psi(e, a)
    assert Measure.parse("js", unit="bits").value(e, a) == js(e, a, unit="bits")
    forth = Measure.parse("kl", unit="nats", direction="live_from_baseline")
    back = Measure.parse("kl", unit="nats", direction="baseline_from_live")
    assert forth.value(e, a) == kl(a, e, unit="nats")
    assert back.value(e, a) == kl(e, a, unit="nats")
    assert str(forth) == "KL(live || baseline) in nats"
    assert [str(Measure.parse("psi")), str(Measure.parse("js", unit="bits"))] == ["PSI", "JS in bits"]
