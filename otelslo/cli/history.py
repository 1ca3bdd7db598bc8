"""The rows of the last commit to SQLite, asked like a live ring: for when there is no ring to read.

Totals are those of the commit; boundaries are the saved ones, 5 minutes apart, so a window may begin up to 5 minutes
early.
"""

from __future__ import annotations

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

    @property
    def rows(self) -> int:
        return len(self._names)

    def row_name(self, row: int) -> RowKey:
        return self._names[row]

    def row_birth_ns(self, row: int) -> int:
        return self._saved.births_ns[row]

    def wall_offset_ns(self) -> int:
        return self._saved.wall_offset_ns

    def cells(self, row: int) -> list[int]:
        return self._cells[CELLS * row : CELLS * (row + 1)].tolist()

    def counts(self, row: int) -> Counts:
        cells = self.cells(row)
        return Counts(cells[0], sum(cells[1:FIRST_EXCLUDED]), sum(cells[FIRST_EXCLUDED:]))

    def window(self, row: int, start_ns: int, now_ns: int) -> Window:
        """Events of `row` from the slot that holds `start_ns` until the commit; `now_ns` is the commit's time."""
        slot_ns = start_ns // _SLOT_NS * _SLOT_NS
        if slot_ns <= self.row_birth_ns(row):
            return Window(self.counts(row), True)
        return Window(self.counts(row) - self._totals_at(row, slot_ns), True)

    def _totals_at(self, row: int, slot_ns: int) -> Counts:
        """Totals at a slot's start: of the first boundary kept from there on, else of the last one before it."""
        for close in self._saved.slots(row, slot_ns, self._saved.at_ns + 1):
            return Counts(close.good, close.bad, close.excluded)
        totals: Counts | None = None
        for close in self._saved.slots(row, 0, slot_ns):
            totals = Counts(close.good, close.bad, close.excluded)
        if totals is not None:
            return totals
        # A young row without boundaries counted only since the last one; of an old one they are lost with their events.
        young = self.row_birth_ns(row) > self._saved.at_ns - _KEPT_NS
        return Counts() if young else self.counts(row)
