"""Baselines: what they are made of, what they refuse, and that they survive a file."""

from __future__ import annotations

import json
import math
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelslo.drift.baseline import Baseline, Gathering
from otelslo.drift.bins import CategoricalBins, NumericBins
from otelslo.drift.column import baseline_of_csv
from otelslo.errors import DefinitionError

values = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5).map(float))


def ages(rows=1000, seed=1):
    return np.random.default_rng(seed).normal(40, 10, rows)


@lru_cache
def choosers(rows):
    """Numbers of the rows that choose the bins, as it is defined."""
    return frozenset(row for row in range(rows) if mixed(row) < 2**62)


def mixed(row):
    """Splitmix64 of the row's number, in Python's own integers."""
    z = (row + 1) * 0x9E3779B97F4A7C15 % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def split(column):
    chosen = choosers(len(column))
    return [x for n, x in enumerate(column) if n in chosen], [x for n, x in enumerate(column) if n not in chosen]


def test_one_row_in_four_chooses_whatever_the_period_of_the_rows():
    """As evenly as a fair draw: within four of its standard deviations (8 of 42 rows for each hour of 1,000)."""
    for rows in (200, 1000, 10_000, 50_000):
        for period in (1, 2, 3, 4, 5, 7, 12, 24, 30, 60, 168):
            for phase in range(period):
                of_phase = len(range(phase, rows, period))
                chosen = sum(row % period == phase for row in choosers(rows))
                assert chosen == pytest.approx(of_phase / 4, abs=4 * (of_phase * 3 / 16) ** 0.5)


def test_no_period_up_to_a_month_of_hours_keeps_step():
    """A period's phases together: their chi-square is what a fair draw has (a golden step had 70 or 139 of 417 rows
    for each hour, where 104 are due)."""
    rows = 50_000
    chosen = np.zeros(rows)
    chosen[list(choosers(rows))] = 1
    for period in range(2, 745):
        phases = np.arange(rows) % period
        due = np.bincount(phases) / 4
        statistic = (((np.bincount(phases, chosen) - due) ** 2) / (due * 3 / 4)).sum()
        assert abs(statistic - period) <= 4 * (2 * period) ** 0.5 + 4, period


def test_bins_hold_about_the_same():
    column = ages(10_000)
    baseline = Baseline.of("age", column, "numeric")
    chosen, counted = split(column.tolist())
    held = baseline.bins.count(chosen)[1:-2].tolist()
    assert max(held) - min(held) <= 2, "of those that chose, as even as can be"
    assert list(baseline.counts) == baseline.bins.count(counted).tolist()
    assert baseline.rows == len(counted)
    assert all(600 < count < 900 for count in baseline.counts[1:-2])


def test_a_heavy_value_has_a_bin_of_its_own_and_the_rest_is_cut_evenly():
    column = np.concatenate([np.zeros(9_500), ages(500)])
    baseline = Baseline.of("spent", column, "numeric")
    nearly_zero = baseline.counts[1] - split(column.tolist())[1].count(0)
    assert 0 <= nearly_zero <= 30, "up to the smallest age that chose"
    assert len(baseline.counts) == 13
    held = baseline.bins.count(split(column.tolist())[0])[2:-2].tolist()
    assert max(held) - min(held) <= 2


def test_two_values_are_two_bins():
    baseline = Baseline.of("flag", [0] * 960 + [1] * 40, "numeric")
    assert baseline.bins == NumericBins((0.0, 1.0, 1.0))
    counted = split([0] * 960 + [1] * 40)[1]
    assert baseline.counts == (0, counted.count(0), counted.count(1), 0, 0)


def test_what_no_chooser_has_seen_is_out_of_range():
    column = [1.0] * 300
    seldom = min(set(range(300)) - choosers(300))
    column[seldom] = 2.0
    assert Baseline.of("x", column, "numeric").counts == (0, 300 - len(choosers(300)) - 1, 1, 0)
    counts = Baseline.of("x", column, "categorical").counts
    assert counts == (300 - len(choosers(300)) - 1, 1, 0)


def test_a_column_whose_choosers_are_all_missing():
    column = [None if n in choosers(400) else n % 3 for n in range(400)]
    assert sum(Baseline.of("x", column, "numeric").counts) == 300
    assert sum(Baseline.of("x", column, "categorical").counts[:3]) == 300


def test_a_heavy_value_in_the_middle():
    column = np.concatenate([np.linspace(0, 1, 100), np.full(800, 2.0), np.linspace(3, 4, 100)])
    baseline = Baseline.of("x", column, "numeric")
    twos = split(column.tolist())[1].count(2.0)
    assert twos <= baseline.counts[baseline.bins.bin_of(2)] <= twos + 10, "up to the next value that chose"


@settings(deadline=None)
@given(st.lists(values, min_size=200, max_size=400), st.integers(2, 100))
def test_any_column_is_cut_into_bins_that_the_choosers_fill(column, most):
    if len(set(column)) < 2:
        return
    baseline = Baseline.of("x", column, "numeric", bins=most)
    chosen, counted = split(column)
    assert sum(baseline.counts) == len(counted)
    below, *inner, above, missing = baseline.bins.count(chosen).tolist()
    assert below == above == missing == 0
    assert all(inner)
    assert 1 <= len(inner) <= most
    for number, count in enumerate(inner, 1):  # none too full, but for one value alone
        in_bin = {x for x in chosen if baseline.bins.bin_of(x) == number}
        assert len(in_bin) == 1 or count <= 2 * len(chosen) / most + max(chosen.count(x) for x in in_bin)


def test_categories_by_how_many_they_are():
    column = ["de", "fr", "fr", "at", "de", "fr", "it", None, "fr", "de"] * 100
    baseline = Baseline.of("country", column, "categorical", bins=2)
    assert baseline.bins == CategoricalBins(("fr", "de"))
    assert baseline.counts == tuple(baseline.bins.count(split(column)[1]).tolist())
    assert baseline.counts == pytest.approx((300, 225, 150, 75), abs=20)


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
@pytest.mark.parametrize("column", [ages(), np.random.default_rng(1).integers(0, 9, 500), [1, None, 2.5] * 150])
def test_kept_as_json_it_is_the_same(kind, column):
    baseline = Baseline.of("age", column, kind)
    assert Baseline.parse(json.loads(json.dumps(baseline.plain(), allow_nan=False))) == baseline


REFUSED = [
    ([1.0, math.nan] * 100, "numeric", "100 of 200 values are NaN.*nan_is_missing=True .--nan-is-missing"),
    (np.array([1.0, math.nan] * 100), "categorical", "100 of 200 values are NaN"),
    ([5] * 200, "numeric", "every value is 5.*leave the feature out"),
    (["de"] * 200 + [None], "categorical", "every value is 'de'"),
    (range(199), "numeric", "199 rows have a value.*takes 200"),
    ([*range(199), None, None], "numeric", "199 rows"),
    ([], "categorical", "0 rows"),
    ([*range(200), math.inf], "numeric", "infinite"),
    ([*range(200), "many"], "numeric", "'many' is no number.*kind: categorical"),
    (np.array(["a", "b"] * 100), "numeric", "are no numbers.*kind: categorical"),
    (np.zeros((20, 20)), "numeric", "2 dimensions.*one sequence"),
    ("abc", "categorical", "type str"),
    (None, "numeric", "one sequence"),
    (7, "numeric", "one sequence"),
    ([["de"], ["fr"]] * 100, "categorical", "is no category"),
    (range(200), "ordinal", "'ordinal' is no kind of feature"),
]


@pytest.mark.parametrize(("column", "kind", "says"), REFUSED)
def test_what_makes_no_baseline(column, kind, says):
    with pytest.raises(DefinitionError, match=f"baseline 'age'.*{says}"):
        Baseline.of("age", column, kind)


@pytest.mark.parametrize("bins", [1, 101, 2.5, True, "10"])
def test_numbers_of_bins(bins):
    with pytest.raises(DefinitionError, match="from 2 to 100"):
        Baseline.of("age", range(200), "numeric", bins=bins)


@pytest.mark.parametrize("feature", ["", None, 3])
def test_a_feature_has_a_name(feature):
    with pytest.raises(DefinitionError, match="no feature's name"):
        Baseline.of(feature, range(200), "numeric")


def test_nan_for_missing_if_said_so():
    baseline = Baseline.of("age", [*range(250), *[math.nan] * 8, None], "numeric", nan_is_missing=True)
    assert baseline.counts[-1] == len(set(range(250, 259)) - choosers(259))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"counts": [1]}, "counts"),
        ({"counts": [-1] + [9] * 12}, "negative"),
        ({"counts": "many"}, "counts"),
        ({"counts": [1.5] * 13}, r"counts\[0\]"),
        ({"edges": [1, 0, 2], "counts": [1] * 5}, "ascend"),
        ({"edges": ["a", "b"]}, "no number"),
        ({"edges": [math.nan] * 11}, "finite"),
        ({"format": 2}, "Make the baseline anew"),
        ({"kind": "odd"}, "kind 'odd'"),
        ({"kind": "categorical"}, "edges"),
        ({"feature": None}, "feature"),
        ({"more": 1}, "more"),
    ],
)
def test_what_was_kept_and_changed(changed, says):
    plain = Baseline.of("age", ages(), "numeric").plain() | changed
    with pytest.raises(DefinitionError, match=says):
        Baseline.parse(plain)
    with pytest.raises(DefinitionError):
        Baseline.parse([plain])


def test_the_first_rows():
    gathering = Gathering("age", "numeric", 300)
    assert gathering.add([*range(250), "x", math.nan]) == 252
    with pytest.raises(DefinitionError, match="252 of 300 rows"):
        gathering.baseline()
    assert gathering.add(range(100)) == 48, "the rest is live already"
    assert gathering.full
    assert gathering.add([1]) == 0
    assert gathering.baseline() == Baseline.of("age", [*range(250), None, None, *range(48)], "numeric")


def test_the_first_categories():
    gathering = Gathering("flag", "categorical", 400)
    gathering.add([True, "no", None, 1.0] * 200)
    assert gathering.baseline() == Baseline.of("flag", [True, "no", None, 1.0] * 100, "categorical")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("age", "numeric", 199), "from 200 on"),
        (("age", "numeric", True), "from 200 on"),
        (("age", "odd", 200), "no kind"),
        (("", "numeric", 200), "no feature's name"),
    ],
)
def test_what_cannot_be_gathered_is_told_at_once(arguments, says):
    with pytest.raises(DefinitionError, match=says):
        Gathering(*arguments)


@pytest.fixture
def csv_file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "rows.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_a_column_of_a_file(csv_file):
    rows = "".join(f'{n},"de, or so"\r\n,\r\n{n / 2},fr\r\n' for n in range(100))
    path = csv_file("\ufeffage,country\r\n" + rows + "\r\n")
    column = [x for n in range(100) for x in (float(n), None, n / 2)]
    assert baseline_of_csv(path, "age", "numeric") == Baseline.of("age", column, "numeric")
    texts = ["de, or so", None, "fr"] * 100
    assert baseline_of_csv(path, "country", "categorical") == Baseline.of("country", texts, "categorical")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column is called 'age'.*empty"),
        ("aeg\n1\n", "Did you mean 'aeg'"),
        ("age,age\n1,2\n", "2 columns"),
        ("age,x\n1\n", "line 2 has 1 cells, the header 2"),
        ("age\n1\nten\n", "row 3 holds 'ten', which is no number"),
        ("age\n" + "1\nnan\n" * 100, "100 of 200 values are NaN"),
        ("age\n1\n", "1 rows"),
        ("age\n1\x00\n", "no number|cannot be read"),
    ],
)
def test_files_that_make_no_baseline(csv_file, text, says):
    with pytest.raises(DefinitionError, match=says):
        baseline_of_csv(csv_file(text), "age", "numeric")


def test_files_that_cannot_be_read(csv_file, tmp_path):
    with pytest.raises(DefinitionError, match=r"none\.csv: cannot be read"):
        baseline_of_csv(tmp_path / "none.csv", "age", "numeric")
    with pytest.raises(DefinitionError, match="cannot be read"):
        baseline_of_csv(csv_file("äge\n1\n", "latin-1"), "age", "numeric")
