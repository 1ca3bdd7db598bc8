"""The rows of the last commit to SQLite, asked like a live ring: for when there is no ring to read.

Totals are those of the commit; boundaries are the saved ones, 5 minutes apart (or as long as the slots were that the
objectives asked for), so a window may begin up to 5 minutes early.
"""

from __future__ import annotations

from bisect import bisect_left
from math import gcd

from otelslo.clock import ring_at
from otelslo.counts import Counts
from otelslo.definition import CELLS, FIRST_EXCLUDED
from otelslo.ring.reader import Window
from otelslo.rowkey import RowKey
from otelslo.snapshot import Saved

_SLOT_NS = 300 * 10**9
_KEPT_NS = 35 * 86_400 * 10**9


class SavedRows:
    """One saved snapshot as `evaluate.Rows`; all times are ring time in ns."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._cells = memoryview(saved.cells).cast("q")
        self._names = [RowKey.parse(key) for key in saved.row_keys]
        self._read: dict[int, _Boundaries] = {}

    @property
    def rows(self) -> int:
        return len(self._names)

    def row_name(self, row: int) -> RowKey:
        return self._names[row]

    def row_birth_ns(self, row: int) -> int:
        return self._saved.births_ns[row]

    def wall_offset_ns(self) -> int:
        return self._saved.wall_offset_ns

    def ring_at(self, wall_ns: int) -> int:
        return ring_at(self._saved.clock, wall_ns) if self._saved.clock else wall_ns - self._saved.wall_offset_ns

    def cells(self, row: int) -> list[int]:
        return self._cells[CELLS * row : CELLS * (row + 1)].tolist()

    def counts(self, row: int) -> Counts:
        cells = self.cells(row)
        return Counts(cells[0], sum(cells[1:FIRST_EXCLUDED]), sum(cells[FIRST_EXCLUDED:]))

    def window(self, row: int, start_ns: int, now_ns: int) -> Window:
        """Events of `row` from the slot that holds `start_ns` until the commit; `now_ns` is the commit's time."""
        boundaries = self._read.get(row)
        if boundaries is None:
            boundaries = self._read[row] = _Boundaries(self._saved, row)
        slot_ns = start_ns // boundaries.slot_ns * boundaries.slot_ns
        if slot_ns <= self.row_birth_ns(row):
            return Window(self.counts(row), True)
        totals = boundaries.totals_at(slot_ns)
        if totals is None:
            # A young row without boundaries counted only since the last one; of an old one they are lost with events.
            young = self.row_birth_ns(row) > self._saved.at_ns - _KEPT_NS
            return Window(self.counts(row) if young else Counts(), True)
        return Window(self.counts(row) - totals, True)


class _Boundaries:
    """All boundaries that are kept of one row; those that are missing had no event on one side."""

    def __init__(self, saved: Saved, row: int) -> None:
        closes = list(saved.slots(row, 0, saved.at_ns + 1))
        self._starts = [close.slot_start_ns for close in closes]
        self._totals = [Counts(close.good, close.bad, close.excluded) for close in closes]
        self.slot_ns = gcd(_SLOT_NS, *self._starts)

    def totals_at(self, slot_ns: int) -> Counts | None:
        """Totals at a slot's start: of the first boundary kept from there on, else of the last one before it."""
        if not self._starts:
            return None
        return self._totals[min(bisect_left(self._starts, slot_ns), len(self._starts) - 1)]
