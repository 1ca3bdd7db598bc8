"""Events that are measured beside the edges, counted like any other: by one commit, in this process's block.

Nothing is begun, so a kill loses nothing but what was not yet measured. Nothing is attached anew or started: what comes
after the engine was closed is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from otelslo.event import UNTIMED, Event
from otelslo.slo import SLO

if TYPE_CHECKING:
    from otelslo.engine import Engine

Count = Callable[[Event], None]


class Measured:
    """Counts what was measured for objectives of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def count(self, event: Event) -> None:
        """Judge and count one event; its latency is 0 where it has none. Never raises."""
        engine = self._engine
        try:
            if not engine.running:
                return
            plan = engine.plan_for(event)
            if engine.kernels.record(engine.page, plan, event.latency_ns or 0) < 0:
                engine.fault("not_attached", f"a {event.kind} was not counted")
        except Exception as e:
            engine.fault("internal", f"a {event.kind} was not counted: {type(e).__name__}: {e}")

    def any_since(self, slo: SLO, start_ns: int) -> bool:
        """Whether an event of the objective was counted since the slot of ring time `start_ns`, by any process."""
        engine = self._engine
        rows = [row for one in engine.objectives if one.slo.name == slo.name for row in one.rows.values()]
        return any(counts.valid or counts.excluded for counts in (engine.count_since(row, start_ns) for row in rows))

    def prepare(self, slo: SLO, names: Iterable[str] = ()) -> None:
        """Make what the objective's first event needs, and `names` that it may mention; of the background thread alone,
        which makes such things."""
        engine = self._engine
        event = Event(slo.kind, route=slo.name, attributes=engine.attributes)
        for objective in (one for one in engine.objectives if one.slo.name == slo.name):
            objective.prepare(event)
            objective.make_groups(slo.max_groups)
        for name in (slo.name, *names):
            engine.names.string(name)
        if slo.kind not in UNTIMED:
            engine.names.histogram_of(slo.kind, slo.name)
        engine.names.make(engine.clock.ring_ns())
        engine.forget_plans()
