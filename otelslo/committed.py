"""The rows of one snapshot, asked like a live ring: totals are the snapshot's, boundaries the ring's.

What is decided and exported comes from here, so that it says exactly what the database holds: an export ahead of the
database would go back after a rebuild.
"""

from __future__ import annotations

from otelslo.counts import Counts
from otelslo.definition import CELLS, FIRST_EXCLUDED
from otelslo.ring.reader import Reader, Window
from otelslo.rowkey import RowKey
from otelslo.snapshot import Saved, Snapshot


class CommittedRows:
    """One snapshot of the ring that `reader` reads, as `evaluate.Rows`; `at_ns` is when it was read, in ring time."""

    def __init__(self, snapshot: Snapshot | Saved, reader: Reader) -> None:
        self.at_ns = snapshot.at_ns
        self._offset_ns = snapshot.wall_offset_ns
        self._rows = len(snapshot.row_keys)
        self._cells = memoryview(snapshot.cells).cast("q")
        self._reader = reader
        self._counted: dict[int, Counts] = {}  # a row is asked for each of a dozen windows

    @property
    def rows(self) -> int:
        return self._rows

    def row_name(self, row: int) -> RowKey:
        return self._reader.row_name(row)

    def row_birth_ns(self, row: int) -> int:
        return self._reader.row_birth_ns(row)

    def wall_offset_ns(self) -> int:
        return self._offset_ns

    def ring_at(self, wall_ns: int) -> int:
        return self._reader.ring_at(wall_ns)

    def cells(self, row: int) -> list[int]:
        return self._cells[CELLS * row : CELLS * (row + 1)].tolist()

    def counts(self, row: int) -> Counts:
        found = self._counted.get(row)
        if found is None:
            cells = self.cells(row)
            found = Counts(cells[0], sum(cells[1:FIRST_EXCLUDED]), sum(cells[FIRST_EXCLUDED:]))
            self._counted[row] = found
        return found

    def window(self, row: int, start_ns: int, now_ns: int) -> Window:
        """Events from the slot that holds `start_ns` until the snapshot."""
        return self._reader.window(row, start_ns, now_ns, self.counts(row))
