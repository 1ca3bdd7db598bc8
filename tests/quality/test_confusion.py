"""Confusion counts against scikit-learn, and as values that add up and can be taken back."""

from __future__ import annotations

import json
import math
import warnings
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from otelslo.errors import BadValue
from otelslo.quality.confusion import AVERAGES, METRICS, Confusion

SCORES = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
# Computed by scikit-learn: two classes, and three.
BINARY = ([0, 1, 1, 0, 1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1, 1, 1, 0, 1])
MULTI = ([0, 1, 2, 0, 1, 2, 2, 1, 0, 2], [0, 2, 1, 0, 0, 1, 2, 1, 0, 2])

classes = st.sampled_from(["a", "b", "c", "d"])
pairs = st.lists(st.tuples(classes, classes), min_size=1, max_size=60)


@pytest.fixture(autouse=True, scope="module")
def no_words_about_empty_classes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def by_sklearn(metric, cells, average, **arguments):
    truths, outputs = zip(*cells, strict=True)
    return float(SCORES[metric](truths, outputs, average=average, zero_division=math.nan, **arguments))


def same(ours, theirs):
    return math.isnan(theirs) if ours is None else theirs == pytest.approx(float(ours), abs=1e-12)


@given(pairs)
def test_counts_are_scikit_learns(cells):
    truths, outputs = zip(*cells, strict=True)
    labels = sorted({*truths, *outputs})
    confusion = Confusion.of(cells)
    matrix = confusion_matrix(truths, outputs, labels=labels).tolist()
    assert matrix == [[confusion.cells.get((truth, output), 0) for output in labels] for truth in labels]
    assert confusion.total == len(cells)
    assert confusion.labels == set(labels)
    assert same(confusion.accuracy(), float(accuracy_score(truths, outputs)))


@given(pairs, st.sampled_from(METRICS))
def test_metrics_of_a_class_are_scikit_learns(cells, metric):
    """What is undefined there is None here, never 0."""
    confusion = Confusion.of(cells)
    for label in "abcd":
        theirs = by_sklearn(metric, cells, "macro", labels=[label])
        assert same(confusion.of_label(metric, label), theirs)


@given(pairs, st.sampled_from(METRICS), st.sampled_from(AVERAGES))
def test_averages_are_scikit_learns(cells, metric, average):
    """With zero_division=nan. micro of one truth and one prediction each is the accuracy."""
    confusion = Confusion.of(cells)
    ours, theirs = confusion.average(metric, average), by_sklearn(metric, cells, average)
    defined = [confusion.counted(metric, label)[1] > 0 for label in {truth for truth, _ in cells}]
    if average == "weighted" and not any(defined):
        assert ours is None  # of no class that occurs as a truth is anything known; scikit-learn says 0
        assert theirs == 0
    else:
        assert same(ours, theirs)
    if average == "micro":
        assert ours == confusion.accuracy()


@given(pairs, st.sampled_from(METRICS))
def test_what_is_undefined_is_named(cells, metric):
    confusion = Confusion.of(cells)
    assert confusion.undefined(metric) == {
        label for label in confusion.labels if confusion.of_label(metric, label) is None
    }


def test_reference_values():
    binary, multi = (Confusion.of(zip(*pair, strict=True)) for pair in (BINARY, MULTI))
    assert binary.accuracy() == Fraction(7, 10)
    assert [binary.of_label(metric, 1) for metric in METRICS] == [Fraction(2, 3), Fraction(4, 5), Fraction(8, 11)]
    assert [binary.cells[cell] for cell in ((0, 0), (0, 1), (1, 0), (1, 1))] == [3, 2, 1, 4]
    expected = {"macro": 0.5873015873015873, "micro": 0.6, "weighted": 0.5857142857142856}
    assert {average: float(multi.average("f1", average)) for average in AVERAGES} == pytest.approx(expected)
    precision = {"macro": 0.5833333333333334, "micro": 0.6, "weighted": 0.5916666666666666}
    assert {average: float(multi.average("precision", average)) for average in AVERAGES} == pytest.approx(precision)
    nothing = Confusion.of([(0, 0)] * 3)
    assert nothing.of_label("f1", 1) is None
    assert Confusion.of([]).accuracy() is None
    assert all(Confusion.of([]).average(metric, average) is None for metric in METRICS for average in AVERAGES)


@given(pairs, pairs)
def test_parts_add_up_and_are_taken_back(one, other):
    whole = Confusion.of([*one, *other])
    first, second = Confusion.of(one), Confusion.of(other)
    assert first + second == second + first == whole
    assert whole - second == first
    assert (whole - whole).cells == {}


@given(pairs)
def test_rows_are_read_back(cells):
    """In an order of nothing but the counts, through JSON."""
    confusion = Confusion.of(cells)
    assert confusion.plain() == Confusion.of(reversed(cells)).plain()
    assert Confusion.from_cells(json.loads(json.dumps(confusion.plain()))) == confusion


def test_what_was_never_counted_is_not_taken_back():
    with pytest.raises(BadValue, match="2 more of truth 'a' predicted as 'b' than were counted"):
        Confusion.of([("a", "a")]) - Confusion.of([("a", "b")] * 2)


@pytest.mark.parametrize("label", [None, math.nan, [], {}])
def test_what_is_no_class_is_refused(label):
    with pytest.raises(BadValue, match=r"no class|no plain value"):
        Confusion.of([(label, "a")])


@pytest.mark.parametrize("count", [-1, 1.0, True, "1", None])
def test_what_is_no_count_is_refused(count):
    with pytest.raises(BadValue, match="is no count"):
        Confusion.from_cells([("a", "b", count)])


def test_unknown_words_are_refused():
    with pytest.raises(BadValue, match=r"'f_1' is no metric of a class. Did you mean 'f1'"):
        Confusion.of([(1, 1)]).of_label("f_1", 1)
    with pytest.raises(BadValue, match="is no metric"):
        Confusion.of([]).average("f2", "macro")
    with pytest.raises(BadValue, match=r"'makro' is no average. Did you mean 'macro'"):
        Confusion.of([(1, 1)]).average("f1", "makro")
