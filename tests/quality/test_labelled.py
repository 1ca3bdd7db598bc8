"""When two classes are one: as Python has it, and as a file of texts would have it."""

from __future__ import annotations

import csv
import enum
import io
import json
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.errors import BadValue
from otelslo.labelled import class_key, number_of, plain_class, same_class

CLASSES = st.one_of(
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), min_size=1, max_size=12),
)


class Colour(str, enum.Enum):  # noqa: UP042  # the older form prints its name
    RED = "red"


def through_csv(value):
    """What a CSV file makes of a value."""
    file = io.StringIO()
    csv.writer(file).writerow([value, "x"])
    return next(csv.reader(io.StringIO(file.getvalue())))[0]


@given(CLASSES)
def test_a_class_survives_the_ways_by_which_labels_come(value):
    assert same_class(value, through_csv(value))
    assert same_class(value, json.loads(json.dumps(value)))
    assert class_key(class_key(value)) == class_key(value)


@given(CLASSES, CLASSES)
def test_classes_that_python_finds_equal_are_one(one, other):
    """And numbers that differ are two."""
    if one == other:
        assert same_class(one, other)
    elif not isinstance(one, str) and not isinstance(other, str):
        assert not same_class(one, other)


@pytest.mark.parametrize(
    "ones",
    [
        (1, 1.0, True, "1", "1.0", "1.00", "true", "True", "TRUE", np.int64(1), np.bool_(True), np.float32(1)),
        (0, 0.0, -0.0, False, "0", "-0", "0.0", "-0.0", "false", np.bool_(False)),
        (0.5, "0.5", "0.50", np.float64(0.5)),
        (100, "100", "100.0", 1e2, Decimal("1E+2"), Decimal("100.00")),
        ("spam", np.str_("spam")),
        ("red", Colour.RED),
        (10**30, str(10**30), 1e30),
    ],
)
def test_spellings_of_one_class(ones):
    assert len({class_key(one) for one in ones}) == 1


def test_texts_are_classes_to_the_letter():
    """Leading zeros are part of a name, not of a number."""
    texts = ["007", "7", "1e3", "1000", " 1", "1 ", "1", "tRUE", "yes", "", "Spam", "spam", "+1", ".5", "0.5", "1."]
    assert len({class_key(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "value", [None, math.nan, math.inf, -math.inf, [], {}, b"1", np.array([1, 2]), np.nan, object()]
)
def test_what_is_no_class_is_refused(value):
    with pytest.raises(BadValue, match="is no class"):
        class_key(value)


def test_plain_values_are_of_pythons_own_types():
    given_ = (np.int64(3), np.float32(0.5), np.bool_(True), np.str_("a"), Colour.RED, np.array(4))
    assert [type(plain_class(value)) for value in given_] == [int, float, bool, str, str, int]
    assert json.dumps([plain_class(value) for value in given_]) == '[3, 0.5, true, "a", "red", 4]'


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.7, Fraction(7, 10)),
        ("0.7", Fraction(7, 10)),
        ("4", 4),
        ("-1e-3", Fraction(-1, 1000)),
        (10**500, 10**500),
        (np.float64(0.1), Fraction(1, 10)),
        ("007", 7),
        (Decimal("0.70"), Fraction(7, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        (Decimal("NaN"), None),
        (Decimal("1E+999999"), None),
        (True, None),
        ("true", None),
        ("", None),
        ("four", None),
        ("nan", None),
        (math.nan, None),
        (math.inf, None),
        (None, None),
        ("1/2", None),
        ("1_0", None),
        ("1e999999", None),
    ],
)
def test_numbers_are_read_as_they_are_written(value, number):
    assert number_of(value) == number
