"""What people have marked and the leader has decided of alerts, as every worker may ask the database for it.

Whoever shows the host's totals goes by the same marks as the leader, or two screens tell two budgets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otelslo.errors import StateError
from otelslo.exporters.sqlite_reader import Reader
from otelslo.notes import SNAP_NS, Marked
from otelslo.oncall import restored, shown

EVERY_NS = 10 * 10**9


class Marks:
    """Exclusions, annotations and alerts of one database.

    Args:
        now_ns: ring time.
        every_ns: how long what was read is good for.

    `known` is whether they were ever read.
    """

    def __init__(self, database: Path, now_ns: Callable[[], int], every_ns: int = EVERY_NS) -> None:
        history = Reader(database)
        self._notes, self._dated = history.notes, history.dated()
        self._now_ns = now_ns
        self._every_ns = every_ns
        self._marked = Marked()
        self._read_at_ns: int | None = None
        self.known = False

    def __call__(self, since_wall_ns: int) -> Marked:
        """All exclusions in force, annotations since then (Unix ns) and alerts; as read last where that fails."""
        now_ns = self._now_ns()
        if self._read_at_ns is None or not 0 <= now_ns - self._read_at_ns < self._every_ns:
            self._read_at_ns = now_ns
            try:
                self._marked = self._read(max(0, since_wall_ns))
            except StateError:  # no database yet, an older one without them, or none of ours to judge
                return self._marked
            self.known = True
        return self._marked

    def _read(self, since_wall_ns: int) -> Marked:
        notes = self._notes
        alerts = shown(restored(notes.alerts()))
        exclusions, annotations = tuple(notes.exclusions()), tuple(notes.annotations(since_wall_ns - SNAP_NS))
        return Marked(exclusions, annotations, alerts, self._dated.read())
