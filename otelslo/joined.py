"""Rows of a ring and rows that the history alone has, asked as if they were of one kind."""

from __future__ import annotations

from otelslo.counts import Counts
from otelslo.dated import DatedCounts, DatedRow, apart_ns
from otelslo.ring.reader import Window
from otelslo.rowkey import RowKey
from otelslo.tally import Rows


class JoinedRows:
    """The rows of `base`, as many as there are now, then those of `dated`; all times are ring time in ns."""

    def __init__(self, base: Rows, dated: DatedCounts) -> None:
        self._base = base
        self._first = base.rows
        self._dated = dated.rows
        self.rows = self._first + len(dated.rows)

    def dated_row(self, row: int) -> DatedRow | None:
        """The row of the history, None if it is the ring's."""
        return self._dated[row - self._first] if row >= self._first else None

    def row_name(self, row: int) -> RowKey:
        one = self.dated_row(row)
        return self._base.row_name(row) if one is None else one.key

    def row_birth_ns(self, row: int) -> int:
        one = self.dated_row(row)
        return self._base.row_birth_ns(row) if one is None else one.birth_wall_ns - self._apart_ns()

    def wall_offset_ns(self) -> int:
        return self._base.wall_offset_ns()

    def ring_at(self, wall_ns: int) -> int:
        return self._base.ring_at(wall_ns)

    def cells(self, row: int) -> list[int]:
        one = self.dated_row(row)
        return self._base.cells(row) if one is None else list(one.cells)

    def counts(self, row: int) -> Counts:
        one = self.dated_row(row)
        return self._base.counts(row) if one is None else one.counts

    def window(self, row: int, start_ns: int, now_ns: int) -> Window:
        one = self.dated_row(row)
        if one is None:
            return self._base.window(row, start_ns, now_ns)
        apart = self._apart_ns()
        return Window(one.between(start_ns + apart, now_ns + apart), True)

    def _apart_ns(self) -> int:
        return apart_ns(self.wall_offset_ns())
