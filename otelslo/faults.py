"""Our own faults: counted on a row of their own, logged once each, never raised into a request."""

from __future__ import annotations

import logging
from array import array
from typing import TYPE_CHECKING

from otelslo.definition import CELLS, FIRST_EXCLUDED
from otelslo.kernels import layout as at
from otelslo.plans import Entry, Labels, Plans, plan_words
from otelslo.rowkey import SELF, RowKey

if TYPE_CHECKING:
    from otelslo.ring.live import Ring

log = logging.getLogger("otelslo")

_OTHER = "other"
_NAMED = ("good", "bad_latency", "internal", "user_code", "not_attached", "capacity", "export", "labels", "judge")
REASONS = (*_NAMED, *[""] * (FIRST_EXCLUDED - 1 - len(_NAMED)), _OTHER, *[""] * (CELLS - FIRST_EXCLUDED))
_NO_LABELS = Labels()


class Faults:
    """The faults of one process, on the host's row."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._row = ring.directory.row(RowKey(SELF, "", None, REASONS).text(), ring.clock.ring_ns())
        self._plans = Plans()
        self._said: set[str] = set()

    def count(self, reason: str, detail: str, times: int = 1) -> None:
        """Count a fault, and log the first of its reason. Never raises."""
        try:
            cell = REASONS.index(reason if reason in REASONS else _OTHER)
            plan = plan_words([Entry(self._row, at.NO_THRESHOLD, cell, cell)], -1, _NO_LABELS)
            self._record(self._plans.address(plan), times)
        except Exception as e:
            self.say_once(f"a fault could not be counted: {type(e).__name__}", key="uncounted")
        self.say_once(f"{reason}: {detail}", key=reason)

    def _record(self, plan: int, times: int) -> None:
        if times == 1:
            self._ring.kernels.record(self._ring.page, plan, 0)
            return
        outcomes, latencies = array("q", bytes(times + 8 - times % 8)), array("q", bytes(8 * times))
        places = (outcomes.buffer_info()[0], latencies.buffer_info()[0])
        batch = array("q", (times, *places, plan, plan, plan))
        self._ring.kernels.record_many(self._ring.page, batch.buffer_info()[0])

    def say_once(self, text: str, key: str | None = None) -> None:
        """Log `text` unless something was said under the same key. Never raises."""
        key = key or text
        if key not in self._said:
            self._said.add(key)
            try:
                log.error("%s (said once)", text)
            except Exception:
                return  # a handler or filter of the app's own

    def counts(self) -> dict[str, int]:
        """Faults by reason, of all workers, since the ring's birth."""
        cells = self._ring.reader.cells(self._row)
        return {name: count for name, count in zip(REASONS[1:], cells[1:], strict=True) if name and count}
