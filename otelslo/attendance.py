"""Whether anybody was there to serve, counted by whoever leads on a row of its own in the ring.

A slice in which nothing was asked of a service may be a quiet night or a crash loop. The row tells them apart for any
slice of the past, as exactly as events are counted, after restarts and rebuilds too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from otelslo.definition import CELLS
from otelslo.kernels import layout as at
from otelslo.plans import Entry, Labels, Plans, plan_words
from otelslo.rowkey import ATTENDED, RowKey

if TYPE_CHECKING:
    from otelslo.ring.live import Ring

REASONS = ("good", *[""] * (CELLS - 1))


def row_of(ring: Ring) -> int:
    """The row of this ring, made now if it has none: from then on slices are told apart.

    Raises:
        CapacityError, StateError: there is no room for it.
    """
    return ring.directory.row(RowKey(ATTENDED, "", None, REASONS).text(), ring.clock.ring_ns())


class Attendance:
    """The marks of one process that leads.

    Args:
        fault: counts a fault of ours (reason, detail).
    """

    def __init__(self, fault: Callable[[str, str], None]) -> None:
        self._fault = fault
        self._plans = Plans()
        self._ring: Ring | None = None
        self._row: int | None = None

    def look(self, ring: Ring) -> None:
        """Count one look, if it finds a process that may serve attached. Never raises."""
        try:
            if self._ring is not ring:
                self._ring, self._row = ring, None  # once a ring: one without room has none a second later
                self._row = row_of(ring)
            if self._row is not None and ring.blocks.attended():
                plan = plan_words([Entry(self._row, at.NO_THRESHOLD, 0, 0)], -1, Labels())
                ring.kernels.record(ring.page, self._plans.address(plan), 0)
        except Exception as e:
            self._fault("internal", f"whether a worker is attached was not counted: {type(e).__name__}: {e}")
