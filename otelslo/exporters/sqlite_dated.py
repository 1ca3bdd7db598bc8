"""Dated counts in the history: written in the transaction that found them, read again by what has changed since.

Every write has a revision; a reader asks for what is newer than the last that it knows. Slots that are too old go into
the one at 0, so that totals since a row's birth never go back; then readers begin anew.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from otelslo.dated import NOTHING_DATED, DatedAdd, DatedCounts, DatedRow, slot_of
from otelslo.rowkey import RowKey

_ID, _REVISION = "dated_id", "dated_revision"
_CELLS = 16
_EXPIRE_EVERY_NS = 86_400 * 10**9
_Fetch = Callable[[str, tuple[object, ...]], list[Any]]


class DatedReader:
    """Reads one history again and again; each answer is a value of its own. May raise StoreUnavailable."""

    def __init__(self, fetch: _Fetch) -> None:
        self._fetch = fetch
        self._id: str | None = None
        self._revision = 0
        self._known: dict[int, DatedRow] = {}
        self._last = NOTHING_DATED

    def read(self) -> DatedCounts:
        """All rows as they are now; nothing of a history from before there were any."""
        if not self._fetch("SELECT 1 FROM sqlite_master WHERE name = 'dated_rows'", ()):
            return NOTHING_DATED
        # One statement, and so one view: the row, its birth, and whatever of it is new.
        found = self._fetch(
            "SELECT (SELECT value FROM meta WHERE key = ?), (SELECT value FROM meta WHERE key = ?)", (_ID, _REVISION)
        )
        identity, revision = found[0]
        if identity is None:
            return NOTHING_DATED
        if identity != self._id or revision < self._revision:
            self._id, self._revision, self._known = identity, 0, {}
        if revision > self._revision:
            self._take(
                self._fetch(
                    "SELECT row, key, birth_wall_ns, slot_wall_ns, cell, count + correction, revision"
                    " FROM dated_slots JOIN dated_rows USING (row) WHERE revision > ? ORDER BY row",
                    (self._revision,),
                )
            )
            self._last = DatedCounts(tuple(self._known[row] for row in sorted(self._known)))
        return self._last

    def _take(self, found: Iterable[Any]) -> None:
        for row, entries in groupby(found, key=itemgetter(0)):
            new = list(entries)
            _, key, birth_ns, *_ = new[0]
            revision = max(entry[6] for entry in new)
            known = self._known.get(row) or DatedRow(RowKey.parse(key), birth_ns)
            self._known[row] = known.revised([entry[3:6] for entry in new], birth_ns, revision)
            self._revision = max(self._revision, revision)


def corrections(fetch: _Fetch, row_key: str, since_wall_ns: int) -> int:
    """How many events of a row were corrected since the slot that holds `since_wall_ns` (Unix ns)."""
    found = fetch(
        "SELECT coalesce(sum(max(correction, 0)), 0) FROM dated_slots JOIN dated_rows USING (row)"
        " WHERE key = ? AND slot_wall_ns >= ?",
        (row_key, slot_of(since_wall_ns)),
    )
    return int(found[0][0])


def add_dated(connection: sqlite3.Connection, adds: Iterable[DatedAdd], wall_ns: int) -> None:
    """Add to what is counted, inside the caller's transaction; `wall_ns` is now (Unix ns)."""
    sums: dict[tuple[str, int, int], list[int]] = defaultdict(lambda: [0, 0])
    for add in adds:
        sums[add.row_key, slot_of(add.at_wall_ns), add.cell][add.correction] += add.count
    if not sums:
        return
    revision, rows = _next_revision(connection), dict[str, int]()
    for key, slot_ns, _ in sums:
        rows[key] = _row_number(connection, key, slot_ns)
    connection.executemany(
        "INSERT INTO dated_slots (row, slot_wall_ns, cell, count, correction, revision) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (row, slot_wall_ns, cell) DO UPDATE SET count = count + excluded.count,"
        " correction = correction + excluded.correction, revision = excluded.revision",
        [(rows[key], slot_ns, cell, *both, revision) for (key, slot_ns, cell), both in sums.items()],
    )


def set_dated(
    connection: sqlite3.Connection, row_key: str, at_wall_ns: int, cells: Mapping[int, int], wall_ns: int
) -> None:
    """Have the slot that holds `at_wall_ns` (Unix ns) hold exactly these counts, by cell."""
    slot_ns = slot_of(at_wall_ns)
    row, revision = _row_number(connection, row_key, slot_ns), _next_revision(connection)
    connection.execute(
        "UPDATE dated_slots SET count = 0, correction = 0, revision = ? WHERE row = ? AND slot_wall_ns = ?",
        (revision, row, slot_ns),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO dated_slots (row, slot_wall_ns, cell, count, correction, revision)"
        " VALUES (?, ?, ?, ?, 0, ?)",
        [(row, slot_ns, cell, count, revision) for cell, count in cells.items()],
    )


def expire_dated(connection: sqlite3.Connection, before_wall_ns: int) -> None:
    """Add slots that are older than that to the one at 0, a day's worth at a time: readers begin anew each time."""
    (oldest,) = connection.execute("SELECT min(slot_wall_ns) FROM dated_slots WHERE slot_wall_ns > 0").fetchone()
    if oldest is None or oldest >= before_wall_ns - _EXPIRE_EVERY_NS:
        return
    revision = _next_revision(connection)
    connection.execute(
        "INSERT INTO dated_slots (row, slot_wall_ns, cell, count, correction, revision)"
        " SELECT row, 0, cell, sum(count), sum(correction), ? FROM dated_slots WHERE slot_wall_ns BETWEEN 1 AND ?"
        " GROUP BY row, cell ON CONFLICT (row, slot_wall_ns, cell) DO UPDATE SET count = count + excluded.count,"
        " correction = correction + excluded.correction, revision = excluded.revision",
        (revision, before_wall_ns - 1),
    )
    connection.execute("DELETE FROM dated_slots WHERE slot_wall_ns BETWEEN 1 AND ?", (before_wall_ns - 1,))
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_ID, secrets.token_hex(8)))


def _next_revision(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT value FROM meta WHERE key = ?", (_REVISION,)).fetchone()
    if found is None:
        connection.execute("INSERT INTO meta VALUES (?, ?)", (_ID, secrets.token_hex(8)))
    revision = (found[0] if found else 0) + 1
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_REVISION, revision))
    return int(revision)


def _row_number(connection: sqlite3.Connection, key: str, slot_wall_ns: int) -> int:
    """The row of that key; its birth is the first slot that it ever counted in."""
    connection.execute(
        "INSERT INTO dated_rows (key, birth_wall_ns) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET birth_wall_ns = min(birth_wall_ns, excluded.birth_wall_ns)",
        (key, slot_wall_ns),
    )
    return int(connection.execute("SELECT row FROM dated_rows WHERE key = ?", (key,)).fetchone()[0])
