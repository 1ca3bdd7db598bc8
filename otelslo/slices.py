"""Budgets in slices of time instead of events: OpenSLO's Timeslices and RatioTimeslices.

A closed slice's events become a few units of good or bad, so that whatever decides goes on as with events. The running
slice does not count, and what a slice without events is, the objective says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from otelslo.counts import Counts
from otelslo.errors import Place, shown
from otelslo.throughput import Throughput
from otelslo.window import HOUR_NS, SECOND_NS, format_duration, format_target, parse_positive_duration, parse_target

OCCURRENCES, TIMESLICES, RATIO_TIMESLICES = "occurrences", "timeslices", "ratio_timeslices"
METHODS = (OCCURRENCES, TIMESLICES, RATIO_TIMESLICES)
EMPTY_RULES = ("good", "bad", "ignore")
UNATTENDED_RULES = ("bad", "ignore")
STEP_NS = 10 * SECOND_NS
# A slice's ratio in whole parts, rounded against the service: at most 1e-9 of a slice each.
RATIO_PARTS = 10**9
_KEYS = ("slice", "slice_target", "slice_count", "empty_slices", "unattended")


@dataclass(frozen=True, slots=True)
class Slices:
    """How the events of `length_ns` become one slice.

    In `timeslices` a slice is one unit: good if good / valid >= `bar` (given one) and valid >= `least`. In
    `ratio_timeslices` it is RATIO_PARTS units, good in the proportion of its events. `empty` says what a slice without
    valid events is; "ignore" excludes it. `unattended` says it of one in which no worker was attached either; None: the
    same. With `rate` the promised rate decides instead, and `bar` is its share.
    """

    method: str
    length_ns: int
    bar: Fraction | None = None
    least: int = 0
    empty: str = "ignore"
    unattended: str | None = None
    rate: Throughput | None = None

    @property
    def parts(self) -> int:
        """Units that one slice consists of."""
        return RATIO_PARTS if self.method == RATIO_TIMESLICES else 1

    def of(self, events: Counts, shed: int = 0, *, attended: bool = True) -> Counts:
        """The units of one closed slice with these events, of whose bad ones so many were shed; `attended` is whether
        any worker was attached in it."""
        if self.rate is not None:
            return self.rate.of(events, shed, self.length_ns)
        if events.valid == 0:
            return self._by(self.empty if attended or self.unattended is None else self.unattended)
        if self.method == RATIO_TIMESLICES:
            good = events.good * RATIO_PARTS // events.valid
            return Counts(good, RATIO_PARTS - good)
        within = self.bar is None or events.good * self.bar.denominator >= self.bar.numerator * events.valid
        return Counts(1, 0) if within and events.valid >= self.least else Counts(0, 1)

    def _by(self, rule: str) -> Counts:
        good, bad = rule == "good", rule == "bad"
        return Counts(self.parts * good, self.parts * bad, self.parts * (not good and not bad))

    @property
    def text(self) -> str:
        """For people: "5m slices with 95% good, at least 10 events"."""
        if self.rate is not None:
            return f"{format_duration(self.length_ns)} slices with {self.rate.text}"
        bars = [f"{format_target(self.bar)} good"] if self.bar is not None else []
        bars += [f"at least {self.least} events"] if self.least else []
        return f"{format_duration(self.length_ns)} slices" + (f" with {', '.join(bars)}" if bars else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "length_ns": self.length_ns,
            "bar": None if self.bar is None else [self.bar.numerator, self.bar.denominator],
            "least": self.least,
            "empty": self.empty,
            "unattended": self.unattended,
            "rate": None if self.rate is None else self.rate.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Slices:
        bar, rate = data["bar"], data.get("rate")
        return cls(
            str(data["method"]),
            int(data["length_ns"]),
            None if bar is None else Fraction(int(bar[0]), int(bar[1])),
            int(data["least"]),
            str(data["empty"]),
            data.get("unattended"),
            None if rate is None else Throughput.from_json(rate),
        )


def parse_rate_slices(rate: Throughput, budgeting: object, given: Mapping[str, object], place: Place) -> Slices:
    """Slices in which a rate is kept, of the length `slice`; whatever else decides about slices is refused.

    Raises DefinitionError.
    """
    if budgeting not in (None, TIMESLICES):
        problem = "a rate is kept or not in a slice of time, so it is counted in timeslices"
        raise place.at("budgeting").error(problem, "Leave it out", at_key=True)
    for key in _KEYS[1:]:
        if given.get(key) is not None:
            problem = "the rate and its share say which slices are good, and idle ones are left out"
            raise place.at(key).error(problem, "Leave it out", at_key=True)
    return Slices(TIMESLICES, _length_ns(given, "1m", place), rate.share, rate=rate)


def parse_slices(budgeting: object, given: Mapping[str, object], place: Place) -> Slices | None:
    """Slices by `budgeting` and the keys slice, slice_target, slice_count, empty_slices, unattended; None for
    occurrences.

    Raises DefinitionError.
    """
    budgeting = OCCURRENCES if budgeting is None else budgeting
    if budgeting not in METHODS:
        raise place.at("budgeting").error(f"{shown(budgeting)} is no budgeting method", f"Write {', '.join(METHODS)}")
    for key in _KEYS:
        if given.get(key) is not None and budgeting == OCCURRENCES:
            problem = "it has a meaning only in slices"
            raise place.at(key).error(problem, "Add budgeting: timeslices, or leave it out", at_key=True)
    if budgeting == OCCURRENCES:
        return None
    length_ns = _length_ns(given, "5m", place)
    empty = _or(given.get("empty_slices"), "ignore")
    if empty not in EMPTY_RULES:
        raise place.at("empty_slices").error(f"{shown(empty)} is no rule", f"Write {', '.join(EMPTY_RULES)}")
    unattended = given.get("unattended")
    if unattended not in (None, *UNATTENDED_RULES):
        remedy = f"Write {' or '.join(UNATTENDED_RULES)}; without it such slices are as empty_slices says"
        raise place.at("unattended").error(f"{shown(unattended)} is no rule", remedy)
    bar, least = _bars(str(budgeting), given, place)
    return Slices(str(budgeting), length_ns, bar, least, str(empty), None if unattended is None else str(unattended))


def _length_ns(given: Mapping[str, object], default: str, place: Place) -> int:
    length_ns = place.at("slice").parse(parse_positive_duration, _or(given.get("slice"), default))
    if length_ns % STEP_NS or not STEP_NS <= length_ns <= 24 * HOUR_NS:
        problem = f"{format_duration(length_ns)} is no slice"
        raise place.at("slice").error(problem, "Use a multiple of 10s up to 24h; 1m or 5m is usual")
    return length_ns


def _bars(budgeting: str, given: Mapping[str, object], place: Place) -> tuple[Fraction | None, int]:
    target, count = given.get("slice_target"), given.get("slice_count")
    if budgeting == RATIO_TIMESLICES:
        for key in ("slice_target", "slice_count"):
            if given.get(key) is not None:
                problem = "a ratio timeslice has no bar: its ratio itself counts"
                raise place.at(key).error(problem, "Use budgeting: timeslices, or leave it out", at_key=True)
        return None, 0
    if target is None and count is None:
        raise place.at("slice_target").error("a slice needs a bar", 'Add slice_target: "95%" (or slice_count: 100)')
    bar = None if target is None else place.at("slice_target").parse(_parse_bar, target)
    least = 0 if count is None else place.at("slice_count").expect(count, int, "a whole number of events")
    if count is not None and least < 1:
        raise place.at("slice_count").error(f"{least} is no bar", "Write 1 or more")
    return bar, least


def _parse_bar(value: Any) -> Fraction:
    """As a target, but every event of a slice may have to be good."""
    if value in ("100%", 1, "1", Fraction(1)):
        return Fraction(1)
    return parse_target(value)


def _or(value: object, default: str) -> Any:
    return default if value is None else value
