"""Probes: the leader has each asked when it is due, in a thread of its own that holds up neither it nor another probe.

For each due time (a whole multiple of `every` in ring time) at most one event is counted, on the whole host. A probe
that has not answered by its timeout is bad then, and what it says later is not heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from otelslo.attempt import USUAL_EXCEPTIONS, Attempt, Found
from otelslo.clock import duration_ns
from otelslo.event import Ending, Event
from otelslo.indicators import uptime
from otelslo.measured import Measured
from otelslo.slo import SLO

if TYPE_CHECKING:
    from otelslo.engine import Engine

_INDICATOR = "uptime"
_UNHEARD = Found(uptime.TIMEOUT)
_ENDED_WELL = (None, uptime.STATUS, uptime.WRONG_BODY)


class Probing:
    """The probes that one leader sends.

    Args:
        may_count: whether this process still leads; what comes later is the next leader's to ask for.
    """

    def __init__(self, engine: Engine, may_count: Callable[[], bool]) -> None:
        self._engine = engine
        self._may_count = may_count
        self._measured = Measured(engine)
        self._of: tuple[SLO, ...] | None = None
        self._probes: dict[tuple[str, str], _Probe] = {}

    def tend(self, slos: tuple[SLO, ...], now_ns: int) -> None:
        """Ask for those whose time has come (ring time), and settle those that are late. Waits for none of them.

        A new configuration takes over the probes that it leaves as they were.
        """
        if slos is not self._of:
            self._of = slos
            asking = [slo for slo in slos if slo.indicator == _INDICATOR]
            known = {(slo.name, slo.meaning): slo for slo in asking}
            for key in self._probes.keys() - known.keys():
                self._probes.pop(key).drop()
            self._probes = {key: self._probes.get(key) or _Probe(slo, self) for key, slo in known.items()}
            for slo in asking:
                self._measured.prepare(slo, USUAL_EXCEPTIONS)
        for probe in self._probes.values():
            try:
                probe.tend(now_ns)
            except Exception as e:  # such as no room for a thread
                self._engine.fault("internal", f"a probe could not be sent: {type(e).__name__}: {e}")

    def forget(self) -> None:
        """Whoever leads next begins from what was counted; probes under way are not heard any more."""
        probes, self._of, self._probes = self._probes, None, {}
        for probe in probes.values():
            probe.drop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the probes that are under way; whether all came in time."""
        threads = [probe.thread for probe in list(self._probes.values()) if probe.thread is not None]
        for thread in threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in threads)

    def was_counted(self, slo: SLO, due_ns: int) -> bool:
        return self._measured.any_since(slo, due_ns)

    def now_ns(self) -> int:
        """The clock of latencies."""
        clock = self._engine.clock
        return clock.ring_ns() if clock.manual else duration_ns()

    def count(self, slo: SLO, found: Found, latency_ns: int) -> None:
        if not self._may_count():
            return
        event = Event(
            uptime.KIND,
            ending=Ending.COMPLETE if found.failure in _ENDED_WELL else Ending.EXCEPTION,
            route=slo.name,
            status=found.status,
            exception=found.exception,
            latency_ns=max(0, latency_ns),
            attributes=self._engine.attributes,
            failure=found.failure,
        )
        self._measured.count(event)


class _Probe:
    """One objective's probe: the last due time that was seen to, and the attempt that is under way."""

    def __init__(self, slo: SLO, probing: Probing) -> None:
        self._slo = slo
        self._probing = probing
        self._attempt = Attempt({key: slo.option(key) for key in uptime.OPTIONS})
        self._seen: int | None = None
        self._began_ns = 0
        self._waiting: list[None] = []  # holds one thing while nothing was heard; whoever takes it counts
        self.thread: threading.Thread | None = None

    def tend(self, now_ns: int) -> None:
        every_ns: int = self._slo.option("every")
        due = now_ns // every_ns
        if now_ns - self._began_ns >= self._slo.option("timeout"):
            self._hear(self._waiting, _UNHEARD, now_ns - self._began_ns)
        if self._seen is None:  # another leader may have counted this one; where slots are too coarse to tell, it has
            self._seen = due if self._probing.was_counted(self._slo, due * every_ns) else due - 1
        if due <= self._seen:
            return
        self._seen = due
        if self.thread is not None and self.thread.is_alive():  # a function that hangs: it is not asked a second time
            self._hear(self._waiting, _UNHEARD, now_ns - self._began_ns)
            self._probing.count(self._slo, _UNHEARD, self._slo.option("timeout"))
            return
        self._began_ns = now_ns
        self._waiting = [None]
        self.thread = threading.Thread(
            target=self._ask, args=(self._waiting,), name=f"otelslo-{self._slo.name}", daemon=True
        )
        self.thread.start()

    def drop(self) -> None:
        """What is under way is not heard any more."""
        self._waiting.clear()

    def _ask(self, waiting: list[None]) -> None:
        began_ns = self._probing.now_ns()
        found = self._attempt.once()
        took_ns = self._probing.now_ns() - began_ns
        self._hear(waiting, _UNHEARD if took_ns > self._slo.option("timeout") else found, took_ns)

    def _hear(self, waiting: list[None], found: Found, latency_ns: int) -> None:
        """Count what was found, unless that was done for this attempt."""
        try:
            waiting.pop()  # one step: the leader may be about to do the same
        except IndexError:
            return
        self._probing.count(self._slo, found, latency_ns)
