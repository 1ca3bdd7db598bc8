"""What has become of notices, counted by channel on rows of their own in the ring.

Whoever leads next counts on, any worker can tell it, and it survives like every other count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from otelslo.definition import CELLS, FIRST_EXCLUDED
from otelslo.errors import OtelsloError
from otelslo.kernels import layout as at
from otelslo.plans import Entry, Labels, Plans, plan_words
from otelslo.rowkey import NOTICES, RowKey

if TYPE_CHECKING:
    from otelslo.ring.live import Ring

OUTCOMES = ("delivered", "failed", "dropped")
# Failures stand where a row has excluded events: bad ones would each write a record into the loss log.
_CELL = dict(zip(OUTCOMES, (0, FIRST_EXCLUDED, FIRST_EXCLUDED + 1), strict=True))
_NAMES = {cell: outcome for outcome, cell in _CELL.items()}
REASONS = tuple(_NAMES.get(cell, "") for cell in range(CELLS))


class PostBook:
    """The counts of some channels in one ring.

    Args:
        fault: counts a fault of ours (reason, detail): there is no room for a channel's row.
    """

    def __init__(self, ring: Ring, channels: Iterable[str], fault: Callable[[str, str], None]) -> None:
        self._ring = ring
        self._fault = fault
        self._plans = Plans()
        self._rows = {name: row for name in channels if (row := self._row(name)) is not None}

    def _row(self, channel: str) -> int | None:
        try:
            return self._ring.directory.row(RowKey(NOTICES, "", channel, REASONS).text(), self._ring.clock.ring_ns())
        except OtelsloError as e:
            self._fault("capacity", f"what becomes of notices to {channel} is not counted: {e}")
            return None

    def count(self, channel: str, outcome: str) -> None:
        """Count one of OUTCOMES: an attempt that arrived or failed, or a notice that was given up. Never raises."""
        row = self._rows.get(channel)
        if row is None:
            return
        try:
            cell = _CELL[outcome]
            plan = plan_words([Entry(row, at.NO_THRESHOLD, cell, cell)], -1, Labels())
            self._ring.kernels.record(self._ring.page, self._plans.address(plan), 0)
        except Exception as e:
            self._fault("internal", f"a notice was not counted: {type(e).__name__}: {e}")
