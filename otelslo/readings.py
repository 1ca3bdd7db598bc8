"""The app's own gauges in this process: the last value that was told of each, or the function that is asked for it."""

from __future__ import annotations

import inspect
import logging
import numbers
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from otelslo.errors import BadValue, shown

log = logging.getLogger("otelslo")

STALE_AFTER_NS = 60_000_000_000
_MOST_GAUGES = 1000
_MOST_REFUSED = 1000

Value = float | Decimal | numbers.Rational | timedelta


class Reading(NamedTuple):
    """A value and the moment (monotonic clock, ns) at which it was told, or a function to ask."""

    value: Any
    told_ns: int
    ask: Callable[[], Any] | None = None

    def is_stale(self, now_ns: int | None = None) -> bool:
        """Whether a value that was told is too old to say anything; a function is asked anew each time."""
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        return self.ask is None and now_ns - self.told_ns > STALE_AFTER_NS


_readings: dict[str, Reading] = {}
_said: set[str] = set()
_refused: deque[str] = deque(maxlen=_MOST_REFUSED)


def gauge(name: str, value: Value | Callable[[], Value | None]) -> None:
    """Tell the value of a gauge of this process, for objectives with the indicator `saturation`. Never raises.

    A value holds for a minute unless it is told again. A function is asked each second, in a thread beside the app; it
    returns the value, or None: not known. One dict entry is written and nothing else, so requests may call it. What is
    neither is logged once and counted as a fault, `user_code`; so is an async function. A name that no objective asks
    for is logged once.

    Args:
        name: what the objective calls it: `gauge: queue_depth`.
        value: a number, a timedelta, or a function without arguments that returns one.
    """
    try:
        reading = _reading_of(name, value)
    except BadValue as refused:
        _refuse(name, str(refused))
        return
    if name in _readings or len(_readings) < _MOST_GAUGES:
        _readings[name] = reading


def _reading_of(name: str, value: Any) -> Reading:
    if not isinstance(name, str):
        raise BadValue(f"gauge {shown(name)}: its name is no text", 'Write one such as "queue_depth"')
    if callable(value):
        if inspect.iscoroutinefunction(value):
            remedy = "Use a plain function: it is asked in a thread of its own"
            raise BadValue(f"gauge {shown(name)}: the function is async", remedy)
        return Reading(None, 0, value)
    if isinstance(value, bool) or not isinstance(value, numbers.Number | timedelta):
        raise BadValue(f"gauge {shown(name)}: {shown(value)} is no number", "Give a number, a timedelta or a function")
    return Reading(value, time.monotonic_ns())


def _refuse(name: object, why: str) -> None:
    _refused.append(why)
    key = shown(name)
    if key not in _said and len(_said) < _MOST_GAUGES:
        _said.add(key)
        log.error("%s (said once)", why)


def refused() -> Iterator[str]:
    """What was refused since this was last asked, for whoever counts faults; of many in a second the last ones."""
    with suppress(IndexError):
        while True:
            yield _refused.popleft()


def names() -> tuple[str, ...]:
    """The gauges that were ever told."""
    return tuple(_readings)


def reading(name: str) -> Reading | None:
    """What is known of a gauge in this process; None: nothing was ever told."""
    return _readings.get(name)
