"""What a feature looked like when all was well: its bins, fixed once and for all, and how much fell in each.

A numeric feature is cut where the baseline's own values lie as evenly as they can: a value that holds more than its
share (a zero, a default) gets a bin of its own. A categorical one has its most frequent values. A baseline is plain
JSON, kept beside the model. Loads numpy.

One row in four chooses the bins, the others are counted. If the same rows did both, a rare value would have a bin
because it happened to occur, and what never occurred would be counted as never occurring: live traffic from the same
source then differs by more than chance (measured: up to 27 % false alarms instead of 1 %, with many rare categories).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from otelslo.drift.bins import Bins, CategoricalBins, NumericBins, as_category, as_column, as_number, is_missing
from otelslo.errors import Place, nearest, shown

Kind = Literal["numeric", "categorical"]
KINDS: tuple[Kind, ...] = ("numeric", "categorical")
LEAST_ROWS = 200
BINS, MOST_BINS = 10, 100
CATEGORIES, MOST_CATEGORIES = 20, 1_000

_FORMAT = 1
_CHOOSING_KEY = 0x9E3779B97F4A7C15  # of the hash of a row's number, which keeps step with no period of the rows


@dataclass(frozen=True, slots=True)
class Baseline:
    """A feature's bins and its counts in them."""

    feature: str
    bins: Bins
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != self.bins.size or min(self.counts) < 0:
            raise ValueError(f"{len(self.counts)} counts for {self.bins.size} bins, or a negative one")

    @property
    def rows(self) -> int:
        """Rows that are counted, those without a value included: three in four of the column's."""
        return sum(self.counts)

    @classmethod
    def of(
        cls,
        feature: str,
        values: Iterable[Any],
        kind: Kind,
        *,
        bins: int | None = None,
        nan_is_missing: bool = False,
    ) -> Baseline:
        """A baseline of a column.

        Args:
            values: a sequence or an array of one dimension; None is a missing value.
            bins: how many bins (numeric, 10) or values of their own (categorical, 20) at most.
            nan_is_missing: take NaN for a missing value, instead of refusing it as a fault of the data.

        Raises:
            DefinitionError: values of the wrong type, NaN, infinite ones, fewer than 200 or all the same.
        """
        place = _place(feature)
        if kind not in KINDS:
            raise place.error(f"{shown(kind)} is no kind of feature", nearest(str(kind), KINDS))
        most = MOST_BINS if kind == "numeric" else MOST_CATEGORIES
        wanted = (BINS if kind == "numeric" else CATEGORIES) if bins is None else bins
        if isinstance(wanted, bool) or not isinstance(wanted, int) or not 2 <= wanted <= most:
            raise place.at("bins").error(f"{shown(wanted)} bins", f"Write a whole number from 2 to {most}")
        try:
            column = as_column(values)
        except (TypeError, ValueError) as e:
            raise place.error(f"{e} are no column", "Give one sequence or array of values") from e
        if not nan_is_missing:
            _refuse_nan(column, place)
        choosing = _choosing(len(column))
        make = _numeric if kind == "numeric" else _categorical
        made = make(column, choosing, wanted, place)
        return cls(feature, made, tuple(made.count(column[~choosing]).tolist()))

    def plain(self) -> dict[str, Any]:
        """As values that JSON has; `parse` reads them."""
        bins = self.bins
        held = {"edges": list(bins.edges)} if isinstance(bins, NumericBins) else {"values": list(bins.values)}
        kind = "numeric" if isinstance(bins, NumericBins) else "categorical"
        return {"format": _FORMAT, "feature": self.feature, "kind": kind, **held, "counts": list(self.counts)}

    @classmethod
    def parse(cls, plain: object) -> Baseline:
        """What `plain` gave, perhaps over a file. Raises DefinitionError."""
        place = Place("baseline")
        known = place.expect(plain, dict, "what a baseline was kept as")
        place = _place(place.at("feature").expect(known.get("feature"), str, "the feature's name"))
        kind, held = known.get("kind"), {"numeric": "edges", "categorical": "values"}
        if known.get("format") != _FORMAT or kind not in held:
            raise place.error(f"format {shown(known.get('format'))}, kind {shown(kind)}", "Make the baseline anew")
        place.only(known, ("format", "feature", "kind", "counts", held[kind]))
        counts = place.at("counts").expect(known.get("counts"), list, "a list of counts")
        for number, count in enumerate(counts):
            place.at("counts", number).expect(count, int, "a count")
        listed = place.at(held[kind]).expect(known.get(held[kind]), list, f"a list of {held[kind]}")
        try:
            return cls(known["feature"], _bins(kind, listed), tuple(counts))
        except (TypeError, ValueError, OverflowError) as e:
            raise place.error(str(e), "Make the baseline anew") from e


class Gathering:
    """The first rows of live traffic as a baseline, until there are enough; keeps that many values and no more.

    Live values cannot be refused: NaN is missing, and what is no number is missing in a numeric feature. Not safe for
    several threads.
    """

    def __init__(self, feature: str, kind: Kind, rows: int, *, bins: int | None = None) -> None:
        """`rows`: how many to gather, missing values included. Raises DefinitionError for fewer than 200."""
        place = _place(feature)
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < LEAST_ROWS:
            raise place.at("rows").error(f"{shown(rows)} rows", f"Write a whole number from {LEAST_ROWS} on")
        Baseline.of(feature, range(LEAST_ROWS), kind, bins=bins)  # what is wrong is told now, not at the last row
        self.feature, self.kind, self.rows, self._bins = feature, kind, rows, bins
        self._values: list[object] = []

    def __len__(self) -> int:
        return len(self._values)

    @property
    def full(self) -> bool:
        """Whether there are enough rows."""
        return len(self._values) >= self.rows

    def add(self, values: Iterable[object]) -> int:
        """Take values as far as there is room, and say how many were taken: the next ones are live already."""
        before = len(self._values)
        for value in values:
            if self.full:
                break
            self._values.append(as_number(value) if self.kind == "numeric" else as_category(value))
        return len(self._values) - before

    def baseline(self) -> Baseline:
        """The baseline. DefinitionError if there are too few rows yet, or if they make none."""
        if not self.full:
            place = _place(self.feature)
            raise place.error(f"{len(self)} of {self.rows} rows have come", "Wait for the others")
        return Baseline.of(self.feature, self._values, self.kind, bins=self._bins, nan_is_missing=True)


def _place(feature: object) -> Place:
    if not isinstance(feature, str) or not feature:
        raise Place("baseline").error(f"{shown(feature)} is no feature's name", "Write a text")
    return Place(f"baseline {feature!r}")


def _bins(kind: str, listed: list[Any]) -> Bins:
    if kind == "numeric":
        if any(isinstance(edge, bool) or not isinstance(edge, int | float) for edge in listed):
            raise ValueError("an edge is no number")
        return NumericBins(tuple(float(edge) for edge in listed))
    if not all(isinstance(value, str) for value in listed):
        raise ValueError("a category is no text")
    return CategoricalBins(tuple(listed))


def _refuse_nan(column: npt.NDArray[Any], place: Place) -> None:
    if column.dtype.kind == "f":
        found = int(np.isnan(column).sum())
    else:
        found = sum(value is not None and is_missing(value) for value in column) if column.dtype.kind == "O" else 0
    if found:
        remedy = "Take them out, or say nan_is_missing=True (--nan-is-missing) if a missing value is written so"
        raise place.error(f"{found} of {len(column)} values are NaN", remedy)


def _choosing(rows: int) -> npt.NDArray[np.bool_]:
    """Which rows choose the bins, the same for every column: by a hash of the row's number (the last two rounds of
    splitmix64), so that each row does with a chance of one in four, whatever period the rows have.
    """
    mixed = np.arange(rows, dtype=np.uint64) * np.uint64(_CHOOSING_KEY) + np.uint64(_CHOOSING_KEY)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) < np.uint64(1 << 62)


def _numeric(column: npt.NDArray[Any], choosing: npt.NDArray[np.bool_], most: int, place: Place) -> NumericBins:
    if column.dtype.kind not in "fiubO":
        raise place.error(f"values of type {column.dtype} are no numbers", "Give numbers, or say kind: categorical")
    if column.dtype.kind == "O":
        column = np.array([_number(value, place) for value in column])
    numeric = column.astype(np.float64, copy=False)
    held = ~np.isnan(numeric)
    values = numeric[held]
    if not np.isfinite(values).all():
        raise place.error("a value is infinite", "Take out what is no measurement")
    _refuse_few(len(values), place)
    if values.min() == values.max():
        raise place.error(f"every value is {values[0]:g}", "A constant has no distribution: leave the feature out")
    choosers = numeric[held & choosing]
    return NumericBins(_edges(*np.unique(choosers if len(choosers) else values, return_counts=True), most))


def _edges(different: npt.NDArray[np.float64], times: npt.NDArray[np.int64], most: int) -> tuple[float, ...]:
    """Edges of at most `most` bins, of about the same number of rows each.

    Each bin takes an even share of what is left for it and those after it. A value that is more than that by itself
    begins a bin.
    """
    upto = np.cumsum(times)
    edges, first, taken = [float(different[0])], 0, 0
    for left in range(most, 1, -1):
        share = (int(upto[-1]) - taken) / left
        end = int(np.searchsorted(upto, taken + share)) + 1  # one past the last value of this bin
        if end - 1 > first and times[end - 1] >= share:
            end -= 1
        if end >= len(different):
            break
        first, taken = end, int(upto[end - 1])
        edges.append(float(different[first]))
    return (*edges, float(different[-1]))


def _number(value: object, place: Place) -> float:
    number = as_number(value)
    if number != number and not is_missing(value):
        raise place.error(f"{shown(value)} is no number", "Give numbers, or say kind: categorical")
    return number


def _categorical(column: npt.NDArray[Any], choosing: npt.NDArray[np.bool_], most: int, place: Place) -> CategoricalBins:
    for value in column if column.dtype.kind == "O" else ():
        if isinstance(value, bytes | list | dict | tuple | set):
            raise place.error(f"{shown(value)} is no category", "Give texts, whole numbers or yes/no values")
    categories = [as_category(value) for value in column.tolist()]
    held = [category for category in categories if category]
    _refuse_few(len(held), place)
    if len(set(held)) < 2:
        raise place.error(f"every value is {shown(held[0])}", "A constant has no distribution: leave the feature out")
    times = Counter(category for category, chooses in zip(categories, choosing, strict=True) if chooses and category)
    times = times or Counter(held)
    ordered = sorted(times, key=lambda value: (-times[value], value))
    return CategoricalBins(tuple(ordered[:most]))


def _refuse_few(rows: int, place: Place) -> None:
    if rows < LEAST_ROWS:
        raise place.error(f"{rows} rows have a value", f"A baseline takes {LEAST_ROWS} of them, better 10,000")
