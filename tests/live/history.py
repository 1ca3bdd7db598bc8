"""What SQLite holds, added up by objective as the tests compare it."""

from __future__ import annotations

from pathlib import Path

from otelslo.counts import Counts
from otelslo.exporters.sqlite_reader import Reader
from otelslo.kernels import layout as at
from otelslo.rowkey import RowKey


def saved_counts(state_dir: Path) -> dict[str, Counts]:
    """Committed totals by objective, all groups together."""
    saved = Reader(state_dir / "otelslo.db").load()
    assert saved is not None
    cells = memoryview(saved.cells).cast("q").tolist()
    totals: dict[str, Counts] = {}
    for i, key in enumerate(saved.row_keys):
        row = cells[at.CELLS * i : at.CELLS * (i + 1)]
        counts = Counts(row[0], sum(row[at.FIRST_BAD : at.FIRST_EXCLUDED]), sum(row[at.FIRST_EXCLUDED :]))
        name = RowKey.parse(key).slo
        totals[name] = totals.get(name, Counts()) + counts
    return totals
