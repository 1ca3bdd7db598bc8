"""Drift: does what a model is fed still look like its baseline? One event for each closed window of time.

Good: no feature has drifted. Bad: one has, by more than the limit and by more than chance makes. Excluded: too few rows
to tell. Not seen: labels, so whether the model is still right; and whatever the features do not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from otelslo.drift.divergence import Measure
from otelslo.drift.source import Source, parse_source
from otelslo.errors import BadValue, nearest, shown
from otelslo.event import GOOD, Event, Judgement, Outcome, always
from otelslo.indicators import Option, Options, by_table, rule
from otelslo.window import MINUTE_NS, WEEK_NS, format_duration, parse_positive_duration

KIND = "sample"
DATED = True
TICKETS_ONLY = True
LOSS_CLASS = "quality"
STEADY, DRIFTED, NOT_ENOUGH_DATA = "steady", "drifted", "not_enough_data"
_KINDS = ("numeric", "categorical")
_MEASURE_KEYS = ("name", "unit", "direction")
_WILD = "*?["


def parse_measure(value: Any) -> Measure:
    """`psi`, or a mapping that names all that the number depends on. Raises BadValue."""
    if not isinstance(value, Mapping):
        return value if isinstance(value, Measure) else Measure.parse(value)
    for key in value:
        if key not in _MEASURE_KEYS:
            raise BadValue(f"a measure has no {shown(key)}", nearest(str(key), _MEASURE_KEYS))
    return Measure.parse(value.get("name"), unit=value.get("unit"), direction=value.get("direction"))


def parse_limit(value: Any) -> Fraction:
    """The divergence that is still right, exactly, in the measure's unit; a float as it is printed. Raises BadValue."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal | Fraction):
            raise ValueError
        limit = Fraction(float.__repr__(value) if isinstance(value, float) else value)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise BadValue(f"{shown(value)} is no divergence", "Write a number such as 0.1") from None
    if not 0 < limit <= 1000:
        raise BadValue(f"a limit of {shown(value)}", "Write a number above 0, such as 0.1")
    return limit


def parse_features(value: Any) -> Mapping[str, str | None]:
    """Features by name, with the kind of each where it is said. Raises BadValue."""
    if isinstance(value, Mapping):
        for name, kind in value.items():
            if kind not in _KINDS:
                raise BadValue(f"the feature {shown(name)} is {shown(kind)}", "Write numeric or categorical")
        named = dict(value)
    elif isinstance(value, list | tuple):
        named = dict.fromkeys(value)
        if len(named) < len(value):
            raise BadValue("a feature is named twice", "Name each once")
    else:
        raise BadValue(
            f"{shown(value)} are no features", "Write [age, amount], or {age: numeric, country: categorical}"
        )
    if not named or not all(isinstance(name, str) and name for name in named):
        raise BadValue(f"{shown(value)} are no features", "Name one at least, each by a text")
    return _Named(named)


class _Named(dict[str, "str | None"]):
    """Features in the order in which they are written; their text does not depend on it, since meaning does not."""

    def __str__(self) -> str:
        return str(sorted(self.items()))


def parse_every(value: Any) -> int:
    """The length of a window in ns. Raises BadValue."""
    every_ns = parse_positive_duration(value)
    if every_ns < MINUTE_NS:
        raise BadValue(f"windows of {format_duration(every_ns)} are too short", "Write 1m or more; 7d is usual")
    return every_ns


class _Tells(list[str]):
    """Who else is told changes nothing of what is good."""

    def __str__(self) -> str:
        return "whoever asks"


def parse_tells(value: Any) -> list[str]:
    """The limits that are told each window's value. Raises BadValue."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise BadValue(f"{shown(value)} is no list of limits", "Write [weekly-kl], as under limits:")
    return _Tells(value)


OPTIONS = {
    "measure": Option(parse_measure, required=True, example="psi"),
    "limit": Option(parse_limit, required=True, example="0.1"),
    "baseline": Option(parse_source, required=True, example="live:5000"),
    "features": Option(parse_features, example={"age": "numeric"}),
    "every": Option(parse_every, default=WEEK_NS, example="7d"),
    "tells": Option(parse_tells, default=_Tells(), example=["weekly-kl"]),
}
RULES = (
    rule(STEADY, "no feature has drifted", GOOD),
    rule(DRIFTED, "a feature is beyond the limit, and beyond chance", Outcome("bad", DRIFTED)),
    rule(NOT_ENOUGH_DATA, "too few rows to tell", Outcome("excluded", NOT_ENOUGH_DATA)),
)
_TABLE = {line.key: line for line in RULES}


def fits(options: Options, match: Mapping[str, Any]) -> None:
    """Whether options and `match` make a promise together. Raises BadValue."""
    routes: list[str] = match.get("route") or []
    if len(routes) != 1 or any(sign in routes[0] for sign in _WILD):
        raise BadValue("a drift objective is about one stream of rows", "Add match: {route: fraud}, the stream's name")
    source: Source = options["baseline"]
    kinds = set((options["features"] or {"": None}).values())
    if source.live_rows is not None and None in kinds:
        raise BadValue("a live baseline must know its features", "Add features: {age: numeric, country: categorical}")
    if source.live_rows is None and kinds != {None}:
        raise BadValue("the baseline knows the kinds of its features", "Write features: [age, country]")


def keys(event: Event) -> tuple[str, ...]:
    """What was found of the window."""
    return (event.finding or NOT_ENOUGH_DATA,)


def answered(options: Options) -> Judgement:
    """Good is good."""
    return always(GOOD)


def judge(event: Event, options: Options) -> Judgement:
    """By the table."""
    return by_table(_TABLE, keys(event), options)
