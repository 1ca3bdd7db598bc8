"""How long the history is kept, and how it goes: a little in each commit, so that no commit is ever long.

Slots and budget points are ordered by what they belong to, then by time: dropping the old ones is a short walk along
the rows, a few in each commit, with no index by time that every insert would pay for.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from otelslo.exporters.sqlite_dated import expire_dated

DAY_NS = 86_400 * 10**9
FIVE_MINUTES_NS = 300 * 10**9
HOUR_NS = 3_600 * 10**9
RETENTION_NS = 35 * DAY_NS
MARGIN_NS = 5 * DAY_NS  # kept beyond the longest window
HOURLY_RETENTION_NS = 400 * DAY_NS
LOSS_LIMIT = 100_000
JOURNAL_LIMIT = 10_000
CLOCK_LIMIT = 10_000
CONFIG_LIMIT = 100

_WALK = 50  # rows, and series of budget points, that one commit looks at
_BATCH = 200  # entries that each of them may lose in one commit


@dataclass(slots=True)
class Retention:
    """`slots_ns` is for slots, losses and 5-minute points, `hourly_ns` for hourly points; all ages are wall time."""

    slots_ns: int = RETENTION_NS
    hourly_ns: int = HOURLY_RETENTION_NS
    losses: int = LOSS_LIMIT
    _row: tuple[int, int] = (-1, -1)
    _series: int = -1

    def expire(self, connection: sqlite3.Connection, wall_ns: int, new_losses: int) -> None:
        """Drop a batch of what is too old at `wall_ns` (Unix ns), inside the caller's transaction."""
        self._expire_slots(connection, wall_ns - self.slots_ns)
        self._expire_budgets(connection, wall_ns)
        self._expire_losses(connection, wall_ns - self.slots_ns, _BATCH + 2 * new_losses)
        for table, limit in (("journal", JOURNAL_LIMIT), ("configs", CONFIG_LIMIT)):
            connection.execute(f"DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?", (limit,))
        _expire_rings(connection, wall_ns - self.slots_ns)
        expire_dated(connection, wall_ns - self.slots_ns)

    def _expire_slots(self, connection: sqlite3.Connection, before_wall_ns: int) -> None:
        """Of a ring in use the newest slot that is too old stays, in each row: it holds the totals that every later
        window is counted from. A ring that has not committed for so long loses all of them."""
        walk = connection.execute(
            "SELECT ring, row, wall_offset_ns, at_ns, committed < (SELECT max(committed) FROM latest)"
            " FROM ring_rows JOIN latest USING (ring) WHERE (ring, row) > (?, ?) ORDER BY ring, row LIMIT ?",
            (*self._row, _WALK),
        ).fetchall()
        for ring, row, wall_offset_ns, at_ns, another_goes_on in walk:
            before_ns = before_wall_ns - wall_offset_ns
            if not (another_goes_on and at_ns < before_ns):
                (before_ns,) = connection.execute(
                    "SELECT max(slot_start_ns) FROM slots WHERE ring = ? AND row = ? AND slot_start_ns <= ?",
                    (ring, row, before_ns),
                ).fetchone()
            connection.execute(
                "DELETE FROM slots WHERE ring = :ring AND row = :row AND slot_start_ns IN (SELECT slot_start_ns"
                " FROM slots WHERE ring = :ring AND row = :row AND slot_start_ns < :before"
                " ORDER BY slot_start_ns LIMIT :batch)",
                {"ring": ring, "row": row, "before": before_ns, "batch": _BATCH},
            )
        self._row = walk[-1][:2] if len(walk) == _WALK else (-1, -1)

    def _expire_budgets(self, connection: sqlite3.Connection, wall_ns: int) -> None:
        walk = connection.execute(
            "SELECT series FROM series WHERE series > ? ORDER BY series LIMIT ?", (self._series, _WALK)
        ).fetchall()
        for (series,) in walk:
            for span_ns, kept_ns in ((FIVE_MINUTES_NS, self.slots_ns), (HOUR_NS, self.hourly_ns)):
                connection.execute(
                    "DELETE FROM budgets WHERE series = :series AND span_ns = :span AND wall_ns IN (SELECT wall_ns"
                    " FROM budgets WHERE series = :series AND span_ns = :span AND wall_ns < :before"
                    " ORDER BY wall_ns LIMIT :batch)",
                    {"series": series, "span": span_ns, "before": wall_ns - kept_ns, "batch": _BATCH},
                )
        self._series = walk[-1][0] if len(walk) == _WALK else -1

    def _expire_losses(self, connection: sqlite3.Connection, before_wall_ns: int, batch: int) -> None:
        connection.execute(
            "DELETE FROM losses WHERE id IN (SELECT id FROM losses WHERE wall_ns < ? ORDER BY wall_ns LIMIT ?)",
            (before_wall_ns, batch),
        )
        connection.execute(
            "DELETE FROM losses WHERE id IN (SELECT id FROM losses"
            " WHERE id <= (SELECT max(id) FROM losses) - ? ORDER BY id LIMIT ?)",
            (self.losses, batch),
        )


def _expire_rings(connection: sqlite3.Connection, before_wall_ns: int) -> None:
    """Forget rings that no longer commit and have no slots left; the one that committed last always stays."""
    gone = connection.execute(
        "SELECT ring FROM latest WHERE at_ns + wall_offset_ns < ? AND committed < (SELECT max(committed) FROM latest)"
        " AND NOT EXISTS (SELECT 1 FROM slots WHERE slots.ring = latest.ring)",
        (before_wall_ns,),
    ).fetchall()
    for table in ("rings", "latest", "ring_rows", "histograms", "clock", "configs"):
        connection.executemany(f"DELETE FROM {table} WHERE ring = ?", gone)
    for (ring,) in connection.execute("SELECT ring FROM rings").fetchall():
        connection.execute(
            "DELETE FROM clock WHERE ring = :ring AND at_ns < (SELECT at_ns FROM clock WHERE ring = :ring"
            " ORDER BY at_ns DESC LIMIT 1 OFFSET :limit - 1)",
            {"ring": ring, "limit": CLOCK_LIMIT},
        )
