"""Calls that answer a batch: where an objective counts items, a call of N is N events, all of them good or all bad.

All but one are recorded first, by one commit; then the call itself ends as the last one. So a worker that is killed in
between leaves the right number: the call is then booked as one `crashed`.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from otelslo.event import Event

if TYPE_CHECKING:
    from otelslo.engine import Engine


def plan_for(engine: Engine, event: Event, token: int) -> int:
    """The plan that ends the event which `token` began; the other items of its batch are recorded here and now."""
    items = event.batch or 1
    if items == 1 or not engine.judge.by_item:
        return engine.plan_for(event)
    plan, rest = engine.judge.plans_of_batch(event)
    if rest:
        words = array("q", (items - 1, 0, max(1, event.latency_ns or 0), rest, token))
        # Where this is refused, so is the call's end, which tells.
        engine.kernels.record_many(engine.page, words.buffer_info()[0])
    return plan
