"""Confusion counts: how often each truth met each prediction, and what follows from that, exactly.

A ratio without a denominator is None: no prediction was positive, so nothing is known of the precision, which is
neither 0 nor 1. An average over classes is over those for which the metric is defined, and `undefined` names the others
(this is scikit-learn's `zero_division=nan`; its default counts them as 0).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from otelslo.errors import BadValue, nearest, shown

Metric = Literal["precision", "recall", "f1"]
Average = Literal["macro", "micro", "weighted"]
METRICS: tuple[Metric, ...] = ("precision", "recall", "f1")
AVERAGES: tuple[Average, ...] = ("macro", "micro", "weighted")
Cell = tuple[Hashable, Hashable]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Integer counts by (truth, prediction); a value that never changes: `+` adds, `-` takes back.

    Make it by `of` or `from_cells`. Labels are equal as Python has it, so that 1, 1.0 and True are one class.
    """

    cells: Mapping[Cell, int]

    @classmethod
    def of(cls, pairs: Iterable[Cell]) -> Confusion:
        """Of (truth, prediction) pairs. BadValue for a class that cannot be one, such as NaN or a list."""
        try:
            return cls(_checked(Counter(pairs)))
        except TypeError as e:
            raise BadValue(f"a class that is no plain value ({e})", "Give texts, whole numbers or yes/no values") from e

    @classmethod
    def from_cells(cls, cells: Iterable[tuple[Hashable, Hashable, int]]) -> Confusion:
        """Of (truth, prediction, count) rows, as `plain` gives them. BadValue for a count that is none."""
        total: Counter[Cell] = Counter()
        for truth, predicted, count in cells:
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise BadValue(f"{shown(count)} is no count", "Write a whole number from 0 on")
            total[truth, predicted] += count
        return cls(_checked(total))

    def plain(self) -> list[list[Hashable]]:
        """Rows of [truth, prediction, count], in an order that depends on nothing but the counts."""
        order = sorted(self.cells, key=lambda cell: [(type(label).__name__, str(label)) for label in cell])
        return [[*cell, self.cells[cell]] for cell in order]

    def __add__(self, other: Confusion) -> Confusion:
        total = Counter(self.cells)
        total.update(other.cells)
        return Confusion(dict(total))

    def __sub__(self, other: Confusion) -> Confusion:
        """Without what `other` holds. BadValue if that was never counted here."""
        rest = Counter(self.cells)
        rest.subtract(other.cells)
        for cell, count in rest.items():
            if count < 0:
                raise BadValue(
                    f"{-count} more of truth {shown(cell[0])} predicted as {shown(cell[1])} than were counted"
                )
        return Confusion({cell: count for cell, count in rest.items() if count})

    @property
    def total(self) -> int:
        """How many pairs were counted."""
        return sum(self.cells.values())

    @property
    def labels(self) -> set[Hashable]:
        """The classes that occur, as a truth or as a prediction."""
        return {label for cell in self.cells for label in cell}

    def accuracy(self) -> Fraction | None:
        """The share of predictions that were right; None of nothing."""
        return _ratio(self._right(), self.total)

    def counted(self, metric: Metric, label: Hashable) -> tuple[int, int]:
        """(good, valid) of one class: their quotient is the metric.

        Precision: valid are those predicted as `label`; recall: those that are `label`; of both the good were predicted
        as what they are. F1 has no events: it is 2 TP of 2 TP + FP + FN. BadValue for another metric.
        """
        hit = self.cells.get((label, label), 0)
        predicted = sum(count for cell, count in self.cells.items() if cell[1] == label)
        actual = sum(count for cell, count in self.cells.items() if cell[0] == label)
        return _counted(_known(metric), hit, predicted, actual)

    def of_label(self, metric: Metric, label: Hashable) -> Fraction | None:
        """The metric of one class; None where nothing is valid. BadValue for another metric."""
        return _ratio(*self.counted(metric, label))

    def average(self, metric: Metric, average: Average) -> Fraction | None:
        """The metric over all classes.

        macro: every class weighs the same. weighted: each weighs as often as it is the truth. micro: counts are pooled,
        which is the accuracy, where each pair has one truth and one prediction. None if no class has the metric, or
        if those that have it weigh nothing. BadValue for another metric or average.
        """
        if average not in AVERAGES:
            raise BadValue(f"{shown(average)} is no average", nearest(str(average), AVERAGES))
        parts = self._by_label(metric)
        if average == "micro":
            return _ratio(self._right(), self.total)
        defined = [
            (Fraction(good, valid), 1 if average == "macro" else weight)
            for good, valid, weight in parts.values()
            if valid
        ]
        weights = sum(weight for _, weight in defined)
        return sum((value * weight for value, weight in defined), Fraction(0)) / weights if weights else None

    def undefined(self, metric: Metric) -> set[Hashable]:
        """The classes that occur and have no such metric. BadValue for another metric."""
        return {label for label, (_, valid, _) in self._by_label(metric).items() if not valid}

    def _by_label(self, metric: Metric) -> dict[Hashable, tuple[int, int, int]]:
        """(good, valid, times that it is the truth) of each class, in one pass over the cells."""
        _known(metric)
        predicted: Counter[Hashable] = Counter()
        actual: Counter[Hashable] = Counter()
        for (truth, prediction), count in self.cells.items():
            actual[truth] += count
            predicted[prediction] += count
        hits = {label: self.cells.get((label, label), 0) for label in self.labels}
        return {
            label: (*_counted(metric, hit, predicted[label], actual[label]), actual[label])
            for label, hit in hits.items()
        }

    def _right(self) -> int:
        return sum(count for (truth, predicted), count in self.cells.items() if truth == predicted)


def _checked(cells: Counter[Cell]) -> dict[Cell, int]:
    for cell in cells:
        for label in cell:
            if label is None or label != label:
                raise BadValue(f"{shown(label)} is no class", "Leave out what has no truth or no prediction")
    return {cell: count for cell, count in cells.items() if count}


def _known(metric: Metric) -> Metric:
    if metric not in METRICS:
        raise BadValue(f"{shown(metric)} is no metric of a class", nearest(str(metric), METRICS))
    return metric


def _counted(metric: Metric, hit: int, predicted: int, actual: int) -> tuple[int, int]:
    if metric == "precision":
        return hit, predicted
    return (hit, actual) if metric == "recall" else (2 * hit, predicted + actual)


def _ratio(good: int, valid: int) -> Fraction | None:
    return Fraction(good, valid) if valid else None
