"""Counts of events that have a time of their own: a prediction whose label comes days later, a closed window of drift.

The ring knows only "now", so these are counted in the history, by slots of Unix time, and may be revised there: values
here are what was read of it. Nothing in this room reads or writes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType

from otelslo.counts import Counts
from otelslo.rowkey import RowKey
from otelslo.snapshot import Loss, SavedLoss

SLOT_NS = 300 * 10**9
_CELLS, _FIRST_EXCLUDED = 16, 10
_NO_SLOTS: Mapping[int, Sequence[int]] = MappingProxyType({})

SlotCell = tuple[int, int, int]  # start of the slot (Unix ns), cell, count


@dataclass(frozen=True, slots=True)
class DatedAdd:
    """`count` more events (fewer, if negative) in a cell of a row, in the slot that holds `at_wall_ns` (Unix ns).

    A `correction` is one that a later label made: it counts like any other, and is kept apart to be shown.
    """

    row_key: str
    at_wall_ns: int
    cell: int
    count: int
    correction: bool = False


def slot_of(at_wall_ns: int) -> int:
    """The start of the slot that holds a moment, both in Unix ns."""
    return at_wall_ns // SLOT_NS * SLOT_NS


def apart_ns(wall_offset_ns: int) -> int:
    """Unix time minus ring time in whole slots: a clock that was stepped by less moves no event into another slot."""
    return (wall_offset_ns + SLOT_NS // 2) // SLOT_NS * SLOT_NS


class DatedRow:
    """One row as it was read: never changed, but followed by another one.

    Kept as arrays, so that a revision costs what it changes: of a row with 35 days of slots, 0.1 to 1 ms.

    Args:
        slots: the 16 cells of every slot that has any, by its start (Unix ns); the one at 0 holds what is older than
            the history keeps, and belongs to no window.
    """

    def __init__(
        self, key: RowKey, birth_wall_ns: int, slots: Mapping[int, Sequence[int]] = _NO_SLOTS, revision: int = 0
    ) -> None:
        self.key, self.text = key, key.text()
        self.birth_wall_ns = birth_wall_ns
        self.revision = revision
        self.cells = [0] * _CELLS  # totals
        self._starts = array("q")
        self._slots = array("q")  # 16 cells of each slot, one after the other
        self._by_class = [array("q") for _ in range(3)]  # good, bad, excluded: of each slot
        # What came before each slot; one more at the end for all of it.
        self._before = [array("q", [0]) for _ in range(3)]
        if slots:
            self._take((start, cell, n) for start, cells in slots.items() for cell, n in enumerate(cells))

    def revised(self, cells: Iterable[SlotCell], birth_wall_ns: int, revision: int) -> DatedRow:
        """The row with these cells as they are now."""
        new = DatedRow(self.key, birth_wall_ns, revision=revision)
        new.cells = list(self.cells)
        new._starts, new._slots = self._starts[:], self._slots[:]
        new._by_class, new._before = [one[:] for one in self._by_class], [one[:] for one in self._before]
        new._take(cells)
        return new

    def _take(self, cells: Iterable[SlotCell]) -> None:
        first = len(self._starts)
        for start, cell, count in cells:
            at = bisect_left(self._starts, start)
            if at == len(self._starts) or self._starts[at] != start:
                self._insert(at, start)
            place = _CELLS * at + cell
            more, self._slots[place] = count - self._slots[place], count
            self.cells[cell] += more
            self._by_class[_class_of(cell)][at] += more
            first = min(first, at)
        for sums, each in zip(self._before, self._by_class, strict=True):
            sums[first:] = array("q", accumulate(each[first:], initial=sums[first]))

    def _insert(self, at: int, start: int) -> None:
        self._starts.insert(at, start)
        self._slots[_CELLS * at : _CELLS * at] = array("q", bytes(8 * _CELLS))
        for each in self._by_class:
            each.insert(at, 0)

    @property
    def counts(self) -> Counts:
        """Everything that it ever counted."""
        return Counts(*(sums[-1] for sums in self._before))

    def between(self, start_wall_ns: int, end_wall_ns: int) -> Counts:
        """Events of the slots from the one that holds the start to the one that holds the end (Unix ns)."""
        first = bisect_left(self._starts, max(slot_of(start_wall_ns), 1))
        last = max(first, bisect_left(self._starts, slot_of(end_wall_ns) + 1))
        return Counts(*(sums[last] - sums[first] for sums in self._before))

    def slots(self) -> Iterator[tuple[int, list[int]]]:
        """The start (Unix ns) and the 16 cells of each slot, in order of time."""
        for at, start in enumerate(self._starts):
            yield start, self._slots[_CELLS * at : _CELLS * (at + 1)].tolist()

    def losses(self, start_ns: int, wall_offset_ns: int) -> Iterator[SavedLoss]:
        """Its bad events since the slot that holds the start (ring time), as a loss log would have them: of what an
        event was, the group alone tells."""
        values = self.key.values
        route, version = values.get("route", ""), values.get("version", "")
        apart = apart_ns(wall_offset_ns)
        first = bisect_left(self._starts, max(slot_of(start_ns + apart), 1))
        for at in range(first, len(self._starts)):
            if not self._by_class[1][at]:
                continue
            start, bad = self._starts[at], self._slots[_CELLS * at + 1 : _CELLS * at + _FIRST_EXCLUDED]
            for reason, count in zip(self.key.reasons[1:_FIRST_EXCLUDED], bad, strict=True):
                if count > 0:
                    loss = Loss(start - apart, 0, reason, count, route, 0, "", version, 0, "", "")
                    yield SavedLoss(start, self.text, loss)


@dataclass(frozen=True, slots=True)
class DatedCounts:
    """All rows of one history, in the order in which they came."""

    rows: tuple[DatedRow, ...] = field(default=())

    def row(self, key: str) -> DatedRow | None:
        """The row of that key."""
        return next((row for row in self.rows if row.text == key), None)


NOTHING_DATED = DatedCounts()


def _class_of(cell: int) -> int:
    """0 good, 1 bad, 2 excluded."""
    return 0 if cell == 0 else 1 if cell < _FIRST_EXCLUDED else 2
