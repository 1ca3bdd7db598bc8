"""Which bin a value falls in, one at a time or a whole column, with bins that a baseline fixed.

Bins have a fixed order, so that counts of any two places add up cell by cell. Numeric: below the baseline, its own bins
from low to high, above it, missing. Categorical: its values, the most frequent first, all others, missing. Every value
has a bin: what is no number at all counts as missing in a numeric feature. Loads numpy.
"""

from __future__ import annotations

import math
import numbers
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NumericBins:
    """Half-open bins between `edges`, [a, b), the last one closed; the first edge and the last are the extremes.

    `edges` are finite, at least two, and ascend; two equal ones are a bin for exactly that value, at the end only.
    """

    edges: tuple[float, ...]
    _cuts: list[float] = field(init=False, repr=False, compare=False)
    _array: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in zip(self.edges, self.edges[1:-1], strict=False))
        if len(self.edges) < 2 or not all(map(math.isfinite, self.edges)) or not ascending:
            raise ValueError("edges must be at least two finite numbers that ascend")
        if self.edges[-2] > self.edges[-1]:
            raise ValueError("the last edge is below the one before")
        cuts = [*self.edges[:-1], math.nextafter(self.edges[-1], math.inf)]  # the maximum itself is not above
        object.__setattr__(self, "_cuts", cuts)
        object.__setattr__(self, "_array", np.array(cuts))

    @property
    def size(self) -> int:
        """How many bins there are."""
        return len(self.edges) + 2

    @property
    def names(self) -> tuple[str, ...]:
        """What each bin holds, in words."""
        closing = [")"] * (len(self.edges) - 2) + ["]"]
        inner = [f"[{a:g}, {b:g}{c}" for a, b, c in zip(self.edges, self.edges[1:], closing, strict=False)]
        return (f"below {self.edges[0]:g}", *inner, f"above {self.edges[-1]:g}", "missing")

    def bin_of(self, value: object) -> int:
        """The bin of one value."""
        number = as_number(value)
        return len(self._cuts) + 1 if number != number else bisect_right(self._cuts, number)

    def bins_of(self, values: Iterable[Any]) -> Cells:
        """The bin of each value; a column of what is not numeric as a whole is read one by one."""
        column = as_column(values)
        if column.dtype.kind not in "fiub":
            return np.fromiter(map(self.bin_of, column), dtype=np.int64, count=len(column))
        numeric = column.astype(np.float64, copy=False)
        return np.searchsorted(self._array, numeric, side="right") + np.isnan(numeric)  # NaN sorts after the last cut

    def count(self, values: Iterable[Any]) -> Cells:
        """How many of the values fall in each bin."""
        return np.bincount(self.bins_of(values), minlength=self.size)


@dataclass(frozen=True, slots=True)
class CategoricalBins:
    """A bin for each of `values`, one for all others, one for missing. `as_category` says which are equal."""

    values: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values) or "" in self.values:
            raise ValueError("categories must be different texts that are not empty")
        index = {value: number for number, value in enumerate(self.values)}
        object.__setattr__(self, "_index", index | {"": len(index) + 1})

    @property
    def size(self) -> int:
        """How many bins there are."""
        return len(self.values) + 2

    @property
    def names(self) -> tuple[str, ...]:
        """What each bin holds, in words."""
        return (*self.values, "other", "missing")

    def bin_of(self, value: object) -> int:
        """The bin of one value."""
        category = value if type(value) is str else as_category(value)
        return self._index.get(category, self.size - 2)

    def bins_of(self, values: Iterable[Any]) -> Cells:
        """The bin of each value."""
        column = as_column(values)
        if column.dtype.kind in "fiub":
            different, places = np.unique(column, return_inverse=True)
            return np.array([self.bin_of(value) for value in different.tolist()], dtype=np.int64)[places]
        listed = column.tolist()
        plain = column.dtype.kind == "U" or set(map(type, listed)) == {str}
        found = map(self._index.get, listed, repeat(self.size - 2)) if plain else map(self.bin_of, listed)
        return np.fromiter(found, dtype=np.int64, count=len(column))

    def count(self, values: Iterable[Any]) -> Cells:
        """How many of the values fall in each bin."""
        return np.bincount(self.bins_of(values), minlength=self.size)


Bins = NumericBins | CategoricalBins


def as_number(value: Any) -> float:
    """A value as a number, NaN if it is none: a text is none, even if digits are written in it."""
    if isinstance(value, str | bytes | bytearray):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        return math.nan


def as_category(value: object) -> str:
    """A value as the text of its category, "" if it is missing (None, NaN, an empty text).

    A file knows only texts, so 3 and "3" are one category, as are 3 and 3.0, since a column with a gap turns whole
    numbers into floats. True is "True".
    """
    if is_missing(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return str(int(number)) if number.is_integer() else str(number)
    return str(value)


def is_missing(value: Any) -> bool:
    """Whether a value is None or no equal of itself (NaN, NaT, pandas.NA)."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas.NA will not be asked
        return True


def as_column(values: Iterable[Any]) -> npt.NDArray[Any]:
    """Values as an array of one dimension, with no value changed. TypeError or ValueError for what is no column."""
    if hasattr(values, "__array__"):
        column = np.asarray(values)
        if column.ndim != 1:
            raise ValueError(f"values of {column.ndim} dimensions")
        return column
    if isinstance(values, str | bytes | Mapping):
        raise TypeError(f"values of type {type(values).__name__}")
    listed = list(values)
    kinds = {type(value) for value in listed}
    if kinds == {float}:
        return np.array(listed)
    column = np.empty(len(listed), dtype=object)
    column[:] = listed
    return column
