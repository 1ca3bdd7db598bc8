"""What people have marked in the database, as every worker may ask for it: read anew every ten seconds at most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from otelslo.errors import StateError
from otelslo.exporters.sqlite_reader import Reader
from otelslo.notes import Marked

EVERY_NS = 10 * 10**9


class Marks:
    """Exclusions and annotations of one database.

    Args:
        now_ns: ring time.
    """

    def __init__(self, database: Path, now_ns: Callable[[], int]) -> None:
        self._notes = Reader(database).notes
        self._now_ns = now_ns
        self._marked = Marked()
        self._read_at_ns: int | None = None

    def __call__(self, since_wall_ns: int) -> Marked:
        """All exclusions in force, and annotations since then (Unix ns); as read last where that fails."""
        now_ns = self._now_ns()
        if self._read_at_ns is None or not 0 <= now_ns - self._read_at_ns < EVERY_NS:
            self._read_at_ns = now_ns
            try:
                exclusions, annotations = self._notes.exclusions(), self._notes.annotations(max(0, since_wall_ns))
            except StateError:  # no database yet, or none of ours to judge
                return self._marked
            self._marked = Marked(tuple(exclusions), tuple(annotations))
        return self._marked
