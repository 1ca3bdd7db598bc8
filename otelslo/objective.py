"""An SLO bound to its rows in the ring: one row, or one for each group that has been seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from otelslo.definition import CELLS, OVERFLOW, UNKNOWN
from otelslo.errors import OtelsloError
from otelslo.event import Event, Judgement, Outcome, always
from otelslo.kernels import layout as at
from otelslo.plans import Entry
from otelslo.rowkey import SHED, RowKey
from otelslo.rules import CRASHED
from otelslo.slo import SLO
from otelslo.verdicts import MAINTAINED

if TYPE_CHECKING:
    from otelslo.ring.live import Ring

_SHED = Outcome("bad", "shed")


class Objective:
    """The rows of one SLO.

    A group that has no row yet is counted in the overflow row and noted; `make_groups` gives it a row, off the request
    path. Past `max_groups` of all workers together, and for undeclared values, the overflow row is where events stay.
    """

    def __init__(self, slo: SLO, ring: Ring, wanted: Callable[[], None]) -> None:
        self.slo = slo
        self._ring = ring
        self._tell_wanted = wanted
        self._crashed_cell = slo.cell(Outcome("bad", CRASHED.reason))
        self.rows: dict[str | None, int] = {}
        self._wanted: dict[str, None] = {}
        self._rows_seen = 0
        if slo.group_keys:
            self.adopt()
            self._unnamed = self._make(UNKNOWN)
            self._make(OVERFLOW)
        else:
            self._unnamed = self._make(None)
        rate = slo.slices is not None and slo.slices.rate is not None
        self._shed = (self._shed_entry(),) if rate else ()

    def row_of(self, event: Event) -> int:
        """The row that counts this event."""
        group = self.slo.group_of(event)
        row = self.rows.get(group)
        if row is None:
            assert group is not None
            if len(self._wanted) < self._room():
                self._wanted[group] = None
                self._tell_wanted()
            row = self.rows[OVERFLOW]
        return row

    def prepare(self, event: Event) -> None:
        """Note the group of an event that is to be expected, so that `make_groups` gives it a row before the first.

        Only where all that `group_by` asks is known beforehand: route and method, and attributes that the event has.
        """
        known = {"route", "method", *event.attributes}
        if known.issuperset(self.slo.group_keys) and self.slo.matches(
            event.kind, event.route, event.method, event.host
        ):
            self.row_of(event)

    def entries(self, event: Event, wall_ns: int) -> tuple[Entry, ...]:
        """What this event, ending at `wall_ns` (Unix ns), writes here; nothing if it is not this objective's.

        User code may raise.
        """
        maintained = self.slo.planned.active(wall_ns)
        judgement = self.slo.in_maintenance(event) if maintained else self.slo.judge(event)
        return () if judgement is None else self._entries(event, self._of_items(judgement, event))

    def plain_entries(self, event: Event, wall_ns: int) -> tuple[Entry, ...]:
        """What this event writes by maintenance and the indicator alone, where user code has failed."""
        maintained = self.slo.planned.active(wall_ns)
        return self._entries(event, MAINTAINED if maintained else self._of_items(self.slo.by_indicator(event), event))

    def _of_items(self, judgement: Judgement, event: Event) -> Judgement:
        """`judgement` for each item of the event's batch. `threshold` is then an item's, so the whole batch may take
        that much times its items: exact in integers, and decided here by the latency that the event has."""
        if not self.slo.per_item or not event.batch:
            return judgement
        limit_ns, within, beyond = judgement
        if limit_ns is not None and self.slo.threshold_ns is not None:
            limit_ns *= event.batch
        return always(Judgement(limit_ns, within, beyond).outcome(event.latency_ns))

    def _entries(self, event: Event, judgement: Judgement) -> tuple[Entry, ...]:
        threshold = judgement.threshold_ns
        own = Entry(
            self.row_of(event),
            at.NO_THRESHOLD if threshold is None else threshold,
            self.slo.cell(judgement.within),
            self.slo.cell(judgement.beyond),
        )
        return (own, *self._shed) if judgement.within == _SHED else (own,)

    def _shed_entry(self) -> Entry:
        """What a shed event writes beside: the ring's slots know good and bad, but no reasons, and slices ask."""
        key = RowKey(SHED, self.slo.meaning, self.slo.name, (_SHED.reason, *[""] * (CELLS - 1))).text()
        return Entry(self._ring.directory.row(key, self._ring.clock.ring_ns()), at.NO_THRESHOLD, 0, 0)

    def crash_entry(self) -> Entry:
        """What a request in flight writes here if its worker is killed; its group is not known by then."""
        return Entry(self._unnamed, at.NO_THRESHOLD, self._crashed_cell, self._crashed_cell)

    def adopt(self) -> bool:
        """Take over the groups that other workers have made since the last call; whether there were any."""
        reader, found = self._ring.reader, False
        rows = reader.rows if self.slo.group_keys else 0
        for row in range(self._rows_seen, rows):
            key = reader.row_name(row)
            if (key.slo, key.meaning) == (self.slo.name, self.slo.meaning) and key.group not in self.rows:
                self.rows[key.group] = row
                self._wanted.pop(key.group or "", None)
                found = True
        self._rows_seen = rows
        return found

    @property
    def wants_groups(self) -> bool:
        return bool(self._wanted)

    def make_groups(self, most: int) -> int:
        """Give up to `most` noted groups rows of their own; how many have one that had none here."""
        made = 0
        for group in list(self._wanted):
            if made >= most:
                break
            try:
                made += self._make_group(group)
            except OtelsloError:
                most = 0  # the ring or the disk is full: stay in overflow
            self._wanted.pop(group, None)
        return made

    def _make_group(self, group: str) -> bool:
        """Its row, another worker's or a new one; False where the host has `max_groups` of them already."""
        with self._ring.making:  # between looking and making nobody else makes one, so the limit is the host's
            self.adopt()
            if group not in self.rows:
                if self._room() <= 0:
                    return False
                self._make(group)
        return True

    def _room(self) -> int:
        return self.slo.max_groups - (len(self.rows) - len((UNKNOWN, OVERFLOW)))

    def _make(self, group: str | None) -> int:
        key = RowKey(self.slo.name, self.slo.meaning, group, self.slo.reason_cells).text()
        row = self.rows[group] = self._ring.directory.row(key, self._ring.clock.ring_ns())
        return row
