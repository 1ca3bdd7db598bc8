"""The app's own gauges in this process: the last value that was told of each, or the function that is asked for it."""

from __future__ import annotations

import inspect
import numbers
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from otelslo.errors import BadValue, shown

STALE_AFTER_NS = 60_000_000_000
_MOST_GAUGES = 1000

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


def gauge(name: str, value: Value | Callable[[], Value | None]) -> None:
    """Tell the value of a gauge of this process, for objectives with the indicator `saturation`.

    A value holds for a minute unless it is told again. A function is asked each second, in a thread beside the app; it
    returns the value, or None: not known. One dict entry is written and nothing else, so requests may call it.

    Args:
        name: what the objective calls it: `gauge: queue_depth`.
        value: a number, a timedelta, or a function without arguments that returns one.

    Raises:
        BadValue: it is neither, or the function is async.
    """
    if callable(value):
        if inspect.iscoroutinefunction(value):
            remedy = "Use a plain function: it is asked in a thread of its own"
            raise BadValue(f"gauge {shown(name)}: the function is async", remedy)
        reading = Reading(None, 0, value)
    elif isinstance(value, bool) or not isinstance(value, numbers.Number | timedelta):
        raise BadValue(f"gauge {shown(name)}: {shown(value)} is no number", "Give a number, a timedelta or a function")
    else:
        reading = Reading(value, time.monotonic_ns())
    if name in _readings or len(_readings) < _MOST_GAUGES:
        _readings[name] = reading


def reading(name: str) -> Reading | None:
    """What is known of a gauge in this process; None: nothing was ever told."""
    return _readings.get(name)
