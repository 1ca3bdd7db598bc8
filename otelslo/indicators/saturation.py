"""Saturation: how full is the service? One sample a second of a gauge, good while it is at or under the threshold.

What is measured where is `otelslo.sampling`'s. By default the budget is in slices of five minutes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

from otelslo.errors import BadValue, shown
from otelslo.event import GOOD, Ending, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options, Rule, by_table, rule
from otelslo.window import format_duration, format_target, parse_positive_duration

KIND = "sample"
LOSS_CLASS = "overload"
OWN_EVENTS = True
# Slots of five minutes are there anyway; finer slices make every row of the ring several times as large.
SLICED: Mapping[str, str] = {"slice": "5m", "slice_target": "95%"}

SATURATED = "saturated"
IN_FLIGHT, LOOP_LAG, MEMORY, CPU = "in_flight", "loop_lag", "memory", "cpu"
NUMBER, SHARE, DURATION, BYTES = "a number", "a share", "a duration", "bytes"
# The units that a threshold of each of our gauges may have, with an example; a gauge of the app may have any.
GAUGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    IN_FLIGHT: ((NUMBER,), "100"),
    LOOP_LAG: ((DURATION,), "100ms"),
    MEMORY: ((BYTES, SHARE), "2GiB, or 80%"),
    CPU: ((SHARE,), "80%"),
}

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_AMOUNT = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,12})?) ?([A-Za-z]*|%)")
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_REMEDY = "Write what suits the gauge: 100, 80%, 100ms or 2GiB"
_LIKE = 0.8  # how near a name must be to one of ours to be taken for a slip


@dataclass(frozen=True, slots=True)
class Bound:
    """A threshold, exactly: durations in nanoseconds, shares of 1."""

    amount: Fraction
    unit: str

    def __str__(self) -> str:
        if self.unit == DURATION:
            return format_duration(int(self.amount))
        if self.unit == SHARE:
            return format_target(self.amount)
        return f"{self.amount}B" if self.unit == BYTES else str(self.amount)

    def holds(self, value: int | Fraction) -> bool:
        """Whether the value is at or under it."""
        return value <= self.amount


def parse_gauge(value: Any) -> str:
    """One of GAUGES, or the name of a gauge of the app. Raises BadValue, also for a slip of one of ours."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        remedy = f"Write {', '.join(GAUGES)}, or the name given to otelslo.gauge"
        raise BadValue(f"{shown(value)} is no gauge", remedy)
    near = get_close_matches(value.lower().replace("-", "_"), GAUGES, n=1, cutoff=_LIKE)
    if near and value not in GAUGES:
        remedy = f"Did you mean {near[0]}? A gauge of the app needs a name less like it"
        raise BadValue(f"{shown(value)} is no gauge", remedy)
    return value


def parse_bound(value: Any) -> Bound:
    """50, "80%", "100ms" or "2GiB", exactly; a float is read as it is printed. Raises BadValue."""
    if isinstance(value, timedelta):
        return Bound(Fraction(parse_positive_duration(value)), DURATION)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | Fraction | str):
        raise BadValue(f"{shown(value)} is no threshold", _REMEDY)
    text = float.__repr__(value) if isinstance(value, float) else str(value).strip()
    if isinstance(value, Fraction) and value > 0:
        return Bound(value, NUMBER)
    found = _AMOUNT.fullmatch(text)
    if found is None or Fraction(found[1]) == 0:
        if re.match(r"\.?[0-9]", text) and not found:
            return Bound(Fraction(parse_positive_duration(text)), DURATION)
        raise BadValue(f"{shown(value)} is no threshold above zero", _REMEDY)
    amount, unit = Fraction(found[1]), found[2]
    if unit in ("", "%"):
        return Bound(amount / 100, SHARE) if unit else Bound(amount, NUMBER)
    if unit in _BYTES:
        return Bound(amount * _BYTES[unit], BYTES)
    return Bound(Fraction(parse_positive_duration(text)), DURATION)


OPTIONS = {
    "gauge": Option(parse_gauge, required=True, example=IN_FLIGHT, free=True),
    "threshold": Option(parse_bound, required=True, example="100"),
}
RULES: tuple[Rule, ...] = (
    rule("complete", "a sample at or under the threshold", GOOD),
    rule(SATURATED, "a sample above the threshold", Outcome("bad", SATURATED)),
)
_TABLE = {line.key: line for line in RULES}


def check(options: Options) -> None:
    """Raises BadValue: the threshold is none of this gauge, or what measures the gauge is not installed."""
    gauge, bound = options["gauge"], options["threshold"]
    if gauge not in GAUGES:
        return
    units, example = GAUGES[gauge]
    if bound.unit not in units:
        problem = f"a threshold of {gauge} is {' or '.join(units)}, and {bound} is {bound.unit}"
        raise BadValue(problem, f"Write {example}")
    if gauge == MEMORY and find_spec("psutil") is None:
        raise BadValue("memory is measured by psutil, which is not installed", "pip install 'otelslo[saturation]'")


def measures(options: Options) -> str:
    """The gauge and its threshold."""
    return f"{options['gauge']} at or under {options['threshold']}"


def keys(event: Event) -> tuple[str, ...]:
    """ "saturated" or "complete"."""
    return (event.failure or Ending.COMPLETE.value,)


def answered(options: Options) -> Judgement:
    """A sample has no latency."""
    return always(GOOD)


def judge(event: Event, options: Options) -> Judgement:
    """The outcome by the table: whoever took the sample has compared it."""
    return by_table(_TABLE, keys(event), options)
