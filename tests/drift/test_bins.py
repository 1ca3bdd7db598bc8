"""Bins against a naive twin: a value at a time and whole columns agree, and every value has a bin."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.drift.bins import CategoricalBins, NumericBins, as_category, as_column

finite = st.floats(allow_nan=False, allow_infinity=False)
edges = st.lists(finite, min_size=2, max_size=20, unique=True).map(sorted).map(tuple)
anything = st.one_of(
    st.floats(), st.integers(), st.text(max_size=3), st.none(), st.booleans(), st.just(10**400), st.just(-(10**400))
)


def naive_bin(edges, value):
    """By the words: below, [a, b) ..., the last one closed, above, missing."""
    if value is None or isinstance(value, str) or value != value:
        return len(edges) + 1
    if value < edges[0]:
        return 0
    if value > edges[-1]:
        return len(edges)
    for number in range(len(edges) - 2):
        if edges[number] <= value < edges[number + 1]:
            return number + 1
    return len(edges) - 1


@given(edges, st.data())
def test_numeric_bins_equal_the_naive_twin(edges, data):
    near = st.sampled_from([x for edge in edges for x in (edge, math.nextafter(edge, math.inf))])
    values = data.draw(st.lists(st.one_of(near, anything), max_size=30))
    bins = NumericBins(edges)
    rounded = [float(v) if isinstance(v, int) and abs(v) < 10**300 else v for v in values]
    expected = [naive_bin(edges, value) for value in rounded]
    assert [bins.bin_of(value) for value in values] == expected
    assert bins.bins_of(values).tolist() == expected
    assert bins.count(values).tolist() == [expected.count(number) for number in range(bins.size)]
    assert len(bins.names) == bins.size


@given(edges, st.lists(st.floats(width=32), max_size=30), st.sampled_from([np.float64, np.float32]))
def test_float_arrays(edges, values, kind):
    column = np.array(values, dtype=kind)
    assert NumericBins(edges).bins_of(column).tolist() == [naive_bin(edges, float(value)) for value in column]


@given(edges, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_integer_arrays(edges, values):
    expected = [naive_bin(edges, float(value)) for value in values]
    assert NumericBins(edges).bins_of(np.array(values, dtype=np.int64)).tolist() == expected


def test_a_value_of_its_own_at_the_end():
    bins = NumericBins((0.0, 1.0, 1.0))
    assert bins.count([-1, 0, 0.5, 1, 1, 2, None]).tolist() == [1, 2, 2, 1, 1]
    assert bins.names == ("below 0", "[0, 1)", "[1, 1]", "above 1", "missing")


def test_numbers_of_all_kinds():
    bins = NumericBins((0.0, 1.0))
    values = [Decimal("0.5"), Fraction(1, 2), np.float32(0.5), np.int8(0), True, "0.5", b"0.5", 1j, object(), [0.5]]
    assert bins.bins_of(values).tolist() == [1, 1, 1, 1, 1, 3, 3, 3, 3, 3]


@given(st.lists(anything, max_size=30), st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5, unique=True))
def test_categories_equal_the_naive_twin(values, categories):
    bins = CategoricalBins(tuple(categories))
    texts = [as_category(value) for value in values]
    expected = [
        len(categories) + 1 if text == "" else categories.index(text) if text in categories else len(categories)
        for text in texts
    ]
    assert bins.bins_of(values).tolist() == expected
    assert [bins.bin_of(value) for value in values] == expected
    assert bins.count(values).sum() == len(values)


def test_categories_of_arrays_and_of_files_are_the_same():
    bins = CategoricalBins(("1", "2.5", "True"))
    assert bins.bins_of(np.array([1, 2, 1])).tolist() == [0, 3, 0]
    assert bins.bins_of(np.array([1.0, 2.5, np.nan])).tolist() == [0, 1, 4]
    assert bins.bins_of(np.array(["1", "2.5", "", "x"])).tolist() == [0, 1, 4, 3]
    assert bins.bins_of(np.array([True, False])).tolist() == [2, 3]
    assert bins.bins_of([True, 1, 1.0, "1", None, math.nan]).tolist() == [2, 0, 0, 0, 4, 4]
    assert bins.bins_of([]).tolist() == []


class Unasked:
    """As pandas.NA: it says of no comparison whether it holds."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


def test_what_will_not_be_compared_is_missing():
    assert CategoricalBins(("1",)).bin_of(Unasked()) == 2
    assert NumericBins((0.0, 1.0)).bin_of(Unasked()) == 3
    assert NumericBins((0.0, 1.0)).bins_of([Unasked(), 0.5]).tolist() == [3, 1]


@pytest.mark.parametrize("wrong", ["abc", b"abc", {"a": 1}, 3, np.zeros((2, 2)), np.float64(3)])
def test_what_is_no_column(wrong):
    with pytest.raises((TypeError, ValueError)):
        as_column(wrong)


@pytest.mark.parametrize("wrong", [(), (1.0,), (2.0, 1.0), (1.0, 1.0, 2.0), (1.0, math.inf), (math.nan, 1.0)])
def test_edges_that_make_no_bins(wrong):
    with pytest.raises(ValueError, match="edge"):
        NumericBins(wrong)


@pytest.mark.parametrize("wrong", [(), ("a", "a"), ("a", "")])
def test_values_that_make_no_bins(wrong):
    with pytest.raises(ValueError, match="categories"):
        CategoricalBins(wrong)
