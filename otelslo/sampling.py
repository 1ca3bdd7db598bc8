"""Samples of gauges for the indicator `saturation`: one a second, of each worker, or of the host by its leader.

Measured in the background thread; where no objective asks, nothing is. Each sample is one event of each objective that
asks for its gauge, so samples of all workers add up. A gauge that cannot be read is a fault of ours and no sample.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

from otelslo import readings
from otelslo.errors import BadValue, nearest, shown
from otelslo.event import Event
from otelslo.indicators import saturation
from otelslo.indicators.saturation import CPU, DURATION, IN_FLIGHT, LOOP_LAG, MEMORY, SATURATED, SHARE, Bound
from otelslo.limit import exact_number
from otelslo.looplag import LoopLag
from otelslo.measured import Measured
from otelslo.process import Cpu, Memory
from otelslo.slo import SLO
from otelslo.window import MICROSECOND_NS, SECOND_NS

if TYPE_CHECKING:
    from otelslo.engine import Engine

log = logging.getLogger("otelslo")

_INDICATOR = "saturation"
_BUILT_IN = frozenset({IN_FLIGHT, LOOP_LAG, MEMORY, CPU})

Sample = int | Fraction
_Judged = Callable[[Bound], Sample]  # a sample in the unit of a threshold; raises BadValue


class Sampling:
    """The samples that one process takes.

    Args:
        is_agent: it serves nothing itself, so only what is the host's is sampled.
    """

    def __init__(self, engine: Engine, is_agent: bool) -> None:
        self._engine = engine
        self._is_agent = is_agent
        self._measured = Measured(engine)
        self._of: tuple[SLO, ...] = ()
        self._asked: dict[str, list[SLO]] = {}
        self._second: int | None = None
        self._lag = LoopLag()
        self._shortest_lag_ns: int | None = None
        self._cpu = Cpu()
        self._memory: Memory | None = None
        self._asking: dict[str, threading.Thread] = {}
        self._said: set[str] = set()

    def turn(self, slos: tuple[SLO, ...], now_ns: int, leads: bool) -> None:
        """Take the samples of this second (ring time), if they are not taken yet. Never raises."""
        if slos is not self._of:
            self._of = slos
            self._guarded("gauges", lambda: self._bind(slos))
        second = now_ns // SECOND_NS
        if second == self._second:
            return
        self._second = second
        self._guarded("gauges", self._check_told)
        for gauge in self._asked:
            self._guarded(gauge, partial(self._sample, gauge, leads))

    def end(self) -> None:
        """Have no timer run in any loop."""
        self._of, self._asked = (), {}
        self._guarded("gauges", lambda: self._lag.watch(None))

    def join(self, timeout_s: float) -> bool:
        """Wait for the app's functions that are under way; whether all came in time."""
        for thread in list(self._asking.values()):
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._asking.values())

    def _guarded(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as e:
            self._engine.fault("internal", f"{what} cannot be measured: {type(e).__name__}: {e}")

    def _bind(self, slos: tuple[SLO, ...]) -> None:
        """A new configuration, at the start or in a running service."""
        asked: dict[str, list[SLO]] = {}
        for slo in slos:
            if slo.indicator == _INDICATOR:
                asked.setdefault(slo.option("gauge"), []).append(slo)
                self._measured.prepare(slo)
        self._asked = asked
        self._shortest_lag_ns = min(
            (int(slo.option("threshold").amount) for slo in asked.get(LOOP_LAG, ())), default=None
        )
        self._lag.watch(self._shortest_lag_ns)

    def _check_told(self) -> None:
        """Count what the app told and nobody can use; who is meant by a gauge that nobody asks for is said once."""
        for why in readings.refused():
            self._engine.fault("user_code", why)
        own = [gauge for gauge in self._asked if gauge not in _BUILT_IN]
        for name in readings.names():
            if name in own or name in self._said:
                continue
            self._said.add(name)
            if name in _BUILT_IN:
                log.warning("gauge: %s is measured by otelslo itself, and not used as it is told. Rename yours", name)
            else:
                remedy = nearest(name, own) if own else "There are none of the app's own"
                log.warning("gauge: no objective asks for a gauge named %s. %s", shown(name), remedy)

    def _sample(self, gauge: str, leads: bool) -> None:
        if gauge == IN_FLIGHT:
            if leads:
                self._count(gauge, self._engine.in_flight())
        elif self._is_agent:
            return
        elif gauge == LOOP_LAG:
            self._count(gauge, self._lag.worst_ns())
            self._lag.watch(self._shortest_lag_ns)  # a loop may have begun since
        elif gauge == CPU:
            self._count(gauge, self._cpu())
        elif gauge == MEMORY:
            memory = self._memory = self._memory or Memory()
            used, limit = memory(), memory.limit
            self._judge(gauge, lambda bound: Fraction(used, limit) if bound.unit == SHARE else used)
        else:
            self._read(gauge)

    def _count(self, gauge: str, value: Sample | None) -> None:
        if value is not None:
            self._judge(gauge, lambda _: value)

    def _judge(self, gauge: str, value_in: _Judged) -> None:
        for slo in self._asked.get(gauge, ()):
            bound: Bound = slo.option("threshold")
            failure = None if bound.holds(value_in(bound)) else SATURATED
            attributes = self._engine.attributes
            self._measured.count(Event(saturation.KIND, route=slo.name, attributes=attributes, failure=failure))

    # ── gauges of the app ──────────────────────────────────────────────────────────────────────────────────────────
    def _read(self, gauge: str) -> None:
        reading = readings.reading(gauge)
        if reading is None or reading.is_stale():
            return
        if reading.ask is None:
            self._told(gauge, reading.value)
            return
        before = self._asking.get(gauge)
        if before is not None and before.is_alive():
            self._engine.fault("user_code", f"the gauge {gauge!r} is still awaited, and not asked for again")
            return
        thread = threading.Thread(target=self._ask, args=(gauge, reading.ask), name=f"otelslo-{gauge}", daemon=True)
        self._asking[gauge] = thread
        thread.start()

    def _ask(self, gauge: str, ask: Callable[[], Any]) -> None:
        try:
            value = ask()
        except (Exception, SystemExit) as e:
            self._engine.fault("user_code", f"the gauge {gauge!r} cannot be had: {type(e).__name__}: {e}")
            return
        if value is not None:
            self._told(gauge, value)

    def _told(self, gauge: str, value: Any) -> None:
        try:
            self._judge(gauge, lambda bound: in_unit(value, bound.unit))
        except BadValue as e:
            self._engine.fault("user_code", f"the gauge {gauge!r}: {e}")


def in_unit(value: Any, unit: str) -> Fraction:
    """What an app told of its gauge, in the unit of a threshold: a plain number is a count, bytes, a share of 1, or
    seconds. Raises BadValue for what is no finite number, and for a duration where none is meant."""
    if isinstance(value, timedelta):
        if unit != DURATION:
            raise BadValue(
                f"a duration cannot be compared with {unit}", "Tell a number, or write a threshold such as 5s"
            )
        return Fraction(value // timedelta(microseconds=1) * MICROSECOND_NS)
    number = exact_number(value)
    return number * SECOND_NS if unit == DURATION else number
