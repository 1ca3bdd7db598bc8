"""Hands what the leader has read and committed to every exporter, each with a thread of its own.

Destinations live as long as their process leads: a worker that stops leading sends nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from otelslo import exporters
from otelslo.report import Report

if TYPE_CHECKING:
    from otelslo.delivery import Delivery

CLOSE_NS = 2_000_000_000


class Dispatch:
    """The destinations of one leader.

    Args:
        chosen: options by exporter name.
        fault: counts a fault of ours (reason, detail).
        may_send: asked before each sending, whether this process still leads.
    """

    def __init__(
        self,
        chosen: Mapping[str, Mapping[str, object]],
        fault: Callable[[str, str], None],
        may_send: Callable[[], bool],
    ) -> None:
        self._chosen = chosen
        self._fault = fault
        self._may_send = may_send
        self._deliveries: list[Delivery] = []
        self._told: dict[str, str | None] = {}

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        return tuple(self._deliveries)

    def begin(self) -> None:
        """Make the destinations; one that cannot be made is a fault, said once, and the others go on."""
        if self._deliveries or not self._chosen:
            return
        from otelslo.delivery import Delivery

        for name, options in self._chosen.items():
            try:
                exporter = exporters.load(name)(options)
            except Exception as e:
                self._fault("export", f"{name}: {e}")
            else:
                self._deliveries.append(Delivery(name, exporter, self._fault, self._may_send))

    def news(self) -> list[str]:
        """What a journal should say of the destinations since the last call: a new failure, or that it is over."""
        found = []
        for state in (delivery.state() for delivery in self._deliveries):
            before = self._told.get(state.name)
            if state.last_error != before:
                self._told[state.name] = state.last_error
                found.append(f"{state.name}: {state.last_error or 'arrives again'}")
        return found

    def due(self, now_ns: int) -> bool:
        """Whether a destination waits for a report; `now_ns` on the monotonic clock."""
        return any(delivery.due(now_ns) for delivery in self._deliveries)

    def offer(self, report: Report) -> None:
        for delivery in self._deliveries:
            delivery.offer(report)

    def end(self, grace_ns: int = CLOSE_NS) -> None:
        """Let the destinations go, all within `grace_ns`; what was offered last is sent if there is time and leave."""
        deadline_ns = time.monotonic_ns() + grace_ns
        deliveries, self._deliveries = self._deliveries, []
        for delivery in deliveries:
            delivery.close(deadline_ns)

    def forget(self) -> None:
        """After a fork, in the child: the threads are the parent's."""
        self._deliveries = []
