"""A leader's turns without a database, so that a month of an engine and its alerts is simulated in seconds.

Counts, slots, decisions and texts are the engine's own; only the commit is left out, which other tests are about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np
from drive import advance

from otelslo import Engine
from otelslo.announcement import announce, span_ns
from otelslo.committed import CommittedRows
from otelslo.evaluate import Judged, judged
from otelslo.notice import Notice
from otelslo.oncall import OnCall, shared, shown
from otelslo.ring.collect import Collector
from otelslo.ring.geometry import Geometry
from otelslo.snapshot import SavedLoss
from otelslo.status import Status

GEOMETRY = Geometry(max_blocks=4, snapshots=4)


class NoHistory:
    needs_full = False

    def load(self):
        return None


class Simulation:
    """Traffic of one call site, time that passes, and turns of whoever decides about alerts.

    `told` has what people are told: ns since the beginning, event, alert. `fired` has the ns at which each alert fired
    first, told or not.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.track = engine.track("job")
        self.began_ns = engine.clock.ring_ns()
        self.told: list[tuple[int, str, str]] = []
        self.notices: list[Notice] = []
        self.fired: dict[str, int] = {}
        self._collector = Collector(engine.ring, NoHistory())
        self._oncall = OnCall({}, ("ops",))
        self._losses: list[SavedLoss] = []
        self._judged: list[Judged] = []

    @property
    def now_ns(self) -> int:
        """Since the beginning."""
        return self.engine.clock.ring_ns() - self.began_ns

    def record(self, good: int = 0, bad: int = 0, excluded: int = 0) -> None:
        """So many of each, now, by one commit."""
        outcomes = np.repeat(np.array([0, 1, 2], dtype=np.int8), (good, bad, excluded))
        self.engine.record_many(self.track, outcomes, np.zeros(len(outcomes), dtype=np.int64))

    def fail(self, trace_id: int) -> None:
        """One bad event of a trace."""
        code = self.engine.kernels.record(self.engine.page, self.track.plans["bad"], 0)
        self.engine.trace_loss(code, trace_id)

    def wait(self, *, s: float = 0, ns: int = 0) -> None:
        """Let time pass."""
        advance(self.engine, s=s, ns=ns)

    def look(self) -> list[Status]:
        """Statuses as the leader has them, and as the engine answers itself."""
        engine = self.engine
        engine.kernels.open_all(engine.page)  # as the leader does before it reads
        snapshot = self._collector.collect(engine.clock.ring_ns(), "{}")
        self._losses += [SavedLoss(one.at_ns + snapshot.wall_offset_ns, None, one) for one in snapshot.losses]
        self._collector.committed(snapshot)
        rows = CommittedRows(snapshot, engine.ring.reader)
        self._judged = judged(engine.definitions, rows, snapshot.at_ns)
        return [one.status for one in self._judged]

    def turn(self) -> list[Status]:
        """Decide about all alerts; the statuses that it was decided from."""
        statuses = self.look()
        turn = self._oncall.decide(self._judged, self.engine.clock.wall_ns(), self._excess, self._tell)
        self._oncall.committed(turn, self.engine.clock.ring_ns())
        for state in (state for states in turn.states.values() for state in states.values()):
            if state.state == "firing":
                self.fired.setdefault(state.name, self.now_ns)
        return statuses

    def alerts(self) -> dict[str, Mapping[str, object]]:
        """Every alert that fires or has lately fired, by its name, as a status shows it."""
        return {str(one["name"]): one for alerts in shown(self._oncall.states).values() for one in alerts}

    def _within(self, one: Judged, length_ns: int) -> list[SavedLoss]:
        return [loss for loss in self._losses if loss.loss.at_ns >= one.now_ns - length_ns]

    def _excess(self, one: Judged, length_ns: int) -> int:
        return shared(loss.loss for loss in self._within(one, length_ns))

    def _tell(self, one, transition) -> Notice:
        notice = announce(one, transition, self._within(one, span_ns(one, transition)))
        self.told.append((self.now_ns, transition.event, transition.state.name))
        self.notices.append(notice)
        return notice


def dusty(value: object, place: str = "") -> Iterator[str]:
    """Floats of a JSON value that need an exponent, or are neither a time to the nanosecond nor a plain ratio."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from dusty(part, f"{place}.{key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from dusty(part, f"{place}[{number}]")
    elif isinstance(value, float):
        plain = value == round(value, 9) or float(Fraction(value).limit_denominator(10**7)) == value
        if not plain or "e" in repr(value):
            yield f"{place} = {value!r}"
