"""A promised rate: which slices of time keep it, and how much load there was beside it.

A night without traffic keeps no rate and breaks none, so a slice counts only if the load reached the promise, or
something was refused or too slow. Everything is integers and fractions: a slice of exactly the promised load is exact.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from otelslo.counts import Counts
from otelslo.errors import BadValue, shown
from otelslo.window import SECOND_NS, format_ratio, format_target, parse_target

HOST, FLEET = "host", "fleet"
SCOPES = (HOST, FLEET)
FLEET_NOTE = "judged by this host's share of the load alone; the fleet's answer needs all its hosts together"
_RATE = re.compile(r"([0-9]{0,15}\.?[0-9]{1,15}) ?(?:/ ?(s|min|m|h|d))?")
_SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_UNITS = ("s", "min", "h", "d")
_MOST = 10**9
_REMEDY = 'Write requests a second, such as 1000, or "1000/s" or "60000/min"'


@dataclass(frozen=True, slots=True)
class Throughput:
    """`rate` requests a second are promised, of which a share of at least `share` is answered well and in time.

    `scope` says of whom: "host", or "fleet", of which one host sees its own share alone.
    """

    rate: Fraction
    share: Fraction
    scope: str = HOST

    def needed(self, length_ns: int) -> Fraction:
        """Requests of a slice at the promised rate; not always a whole number."""
        return self.rate * length_ns / SECOND_NS

    def held(self, events: Counts, shed: int) -> bool:
        """Whether nothing was shed and the latency objective was met, as it also is by nothing.

        Args:
            events: good (answered well and in time) and bad (slow, failed, shed); together all that was offered.
            shed: those of the bad that were refused by shedding.
        """
        served = max(0, events.valid - shed)
        return shed == 0 and events.good * self.share.denominator >= self.share.numerator * served

    def of(self, events: Counts, shed: int, length_ns: int) -> Counts:
        """One closed slice: good, bad, or excluded where it was idle. Arguments as for `held`.

        It is valid if the load reached the promise, or something was shed, or the latency objective was missed; good if
        as much was answered well as is promised, or all that was offered met the objective.
        """
        needed, held = self.needed(length_ns), self.held(events, shed)
        if held and events.valid < needed:
            return Counts(excluded=1)
        return Counts(1, 0) if held or events.good >= needed else Counts(0, 1)

    @property
    def text(self) -> str:
        """For people: "1,000/s of the host, 99% in time"."""
        return f"{rate_text(self.rate)} of the {self.scope}, {format_target(self.share)} in time"

    def to_json(self) -> dict[str, Any]:
        pairs = {"rate": self.rate, "share": self.share}
        return {key: [value.numerator, value.denominator] for key, value in pairs.items()} | {"scope": self.scope}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Throughput:
        rate, share = (Fraction(int(data[key][0]), int(data[key][1])) for key in ("rate", "share"))
        return cls(rate, share, str(data["scope"]))


@dataclass(frozen=True, slots=True)
class Load:
    """The busiest closed slices of a window, each of `length_ns`, in requests offered.

    `peak` is the most that came in one; `held` the most in one in which the latency objective held and nothing was
    shed. Both are 0 where nothing came.
    """

    promise: Throughput
    length_ns: int
    peak: int = 0
    held: int = 0

    @property
    def peak_rate(self) -> Fraction:
        """Requests a second."""
        return Fraction(self.peak * SECOND_NS, self.length_ns)

    @property
    def held_rate(self) -> Fraction:
        """Requests a second."""
        return Fraction(self.held * SECOND_NS, self.length_ns)

    @property
    def headroom(self) -> Fraction | None:
        """held / peak: 1 if the busiest slice of all held; None without load. What lies above the peak nobody saw."""
        return Fraction(self.held, self.peak) if self.peak else None

    @property
    def held_of_promise(self) -> Fraction:
        """held / promise: from 1 on, the promised rate has been seen to hold."""
        return self.held_rate / self.promise.rate

    @property
    def promise_of_peak(self) -> Fraction | None:
        """promise / peak: how many times the peak fits into the promise; None without load."""
        return self.promise.rate / self.peak_rate if self.peak else None

    @property
    def text(self) -> str:
        """For people: "held 1,250/s, 89.28% of the peak of 1,400/s; 125% of the promised 1,000/s of the host"."""
        promise = f"the promised {rate_text(self.promise.rate)} of the {self.promise.scope}"
        if self.headroom is None:
            return f"none yet; {promise} has not been seen"
        peak = f"{format_ratio(self.headroom)} of the peak of {pace_text(self.peak_rate)}"
        return f"held {pace_text(self.held_rate)}, {peak}; {format_ratio(self.held_of_promise)} of {promise}"

    def to_json(self) -> dict[str, Any]:
        """Rates are requests a second; ratios are numbers, null without load."""
        return {
            "promise_per_s": _number(self.promise.rate),
            "share": format_target(self.promise.share),
            "scope": self.promise.scope,
            "note": FLEET_NOTE if self.promise.scope == FLEET else None,
            "peak_per_s": _number(self.peak_rate),
            "held_per_s": _number(self.held_rate),
            "headroom": _number(self.headroom),
            "held_of_promise": _number(self.held_of_promise),
            "promise_of_peak": _number(self.promise_of_peak),
        }


def parse_rate(value: object) -> Fraction:
    """Requests a second of 1000, 0.5, "1000/s", "60000/min", "5/h", exactly. Raises BadValue."""
    ratio = value if isinstance(value, Fraction) else None
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        form = _RATE.fullmatch(str(value).strip())
        ratio = Fraction(form[1]) / _SECONDS[form[2]] if form else None
    if ratio is None:
        raise BadValue(f"{shown(value)} is no rate", _REMEDY)
    if not 0 < ratio <= _MOST:
        raise BadValue(f"a rate of {shown(value)} is out of range", _REMEDY)
    return ratio


def parse_share(value: Any) -> Fraction:
    """As a target, but all of them may have to be in time: "99%", 0.99, "100%". Raises BadValue."""
    if value in ("100%", 1, "1", Fraction(1)) and value is not True:
        return Fraction(1)
    return parse_target(value)


def parse_scope(value: object) -> str:
    """Raises BadValue."""
    if value not in SCOPES:
        remedy = "Write host (each host promises the rate) or fleet (all hosts together do)"
        raise BadValue(f"{shown(value)} is no scope", remedy)
    return str(value)


def rate_text(rate: Fraction) -> str:
    """A promised rate, exactly where one of the units makes it a whole number: "1,000/s", "100/min"."""
    for unit in _UNITS:
        amount = rate * _SECONDS[unit]
        if amount.denominator == 1:
            return f"{amount.numerator:,}/{unit}"
    return pace_text(rate)


def pace_text(rate: Fraction) -> str:
    """A measured rate, rounded down, in a unit of which there is at least one: "1,250/s", "12.34/s", "3/min"."""
    unit = next((unit for unit in _UNITS if rate * _SECONDS[unit] >= 1), "s")
    hundredths = int(rate * _SECONDS[unit] * 100)
    whole = hundredths >= 10_000 or hundredths % 100 == 0
    return f"{hundredths // 100:,}/{unit}" if whole else f"{hundredths / 100:.2f}/{unit}"


def _number(value: Fraction | None) -> int | float | None:
    if value is None:
        return None
    return value.numerator if value.denominator == 1 else float(value)
