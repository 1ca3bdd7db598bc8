"""The family of indicators: each file says, for one kind of promise, which events are good, bad or excluded.

A member is a module with the names of `Indicator`; its name in a definition is the file's name, or the name of an entry
point in the group "otelslo.indicators". Its table of rules is what decides, and what `otelslo check --rules` prints.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol, cast

from otelslo.errors import DefinitionError, nearest, shown
from otelslo.event import GOOD, Ending, Event, Judgement, Outcome, always
from otelslo.labelled import Labelled
from otelslo.models import Facts
from otelslo.throughput import Throughput

ENTRY_POINTS = "otelslo.indicators"
CASCADE = "oom_cascade"  # the key of a failure that follows from an OOM that took the engine down
Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Option:
    """A key of the definition that only this indicator knows. `parse` raises BadValue; durations become int ns.

    `free`: any text may be right, such as a name that the operator chooses. `meant` is False where it says nothing of
    what makes an event good, so that a change of it keeps the history: of slices, or of when one is judged.
    """

    parse: Callable[[Any], Any]
    required: bool = False
    default: Any = None
    example: Any = ""
    free: bool = False
    meant: bool = True


class Rule(NamedTuple):
    """One line of the table: `key` is a status ("404"), its class ("4xx"), an ending ("exception"), a failure ("oom").

    With `option`, the latency decides at that option's value: at or under it the outcome is `within`, else `beyond`.
    """

    key: str
    happened: str
    within: Outcome
    beyond: Outcome
    option: str | None = None

    def judgement(self, options: Options) -> Judgement:
        return Judgement(options[self.option] if self.option else None, self.within, self.beyond)


class Indicator(Protocol):
    """What a member of the family must have."""

    @property
    def KIND(self) -> str:
        """The kind of event that it is about unless a definition says another, one of EVENT_KINDS."""

    @property
    def OPTIONS(self) -> Mapping[str, Option]:
        """The definition's extra keys."""

    @property
    def RULES(self) -> tuple[Rule, ...]:
        """The table; the order of its bad and excluded reasons is the order in which they get cells of their own."""

    def keys(self, event: Event) -> tuple[str, ...]:
        """The event's keys for rules, the most special first."""

    def answered(self, options: Options) -> Judgement:
        """What an answer that someone calls good is worth: good, or good within a threshold."""

    def judge(self, event: Event, options: Options) -> Judgement:
        """By the table alone."""


class StreamIndicator(Indicator, Protocol):
    """A member that judges the pace of streams: `STREAMED` tells edges to keep one, and each event is looked at."""

    @property
    def STREAMED(self) -> bool:
        """True."""

    def check(self, options: Options) -> None:
        """Raises BadValue: these options make no promise together."""

    def keys_by(self, event: Event, options: Options) -> tuple[str, ...]:
        """As `keys`, with what the options make of the pace before all."""

    def answered_by(self, event: Event, options: Options) -> Judgement:
        """What an answer that someone calls good is worth: good, if its pace is."""


class AgingIndicator(Indicator, Protocol):
    """A member whose judgement of the same event changes with time, by what is known of model versions: `AGES` tells
    that events are to have `known`. Near a turning point each is looked at, between them judgements are remembered.
    """

    @property
    def AGES(self) -> bool:
        """True."""

    def turning_points(self, facts: Facts, options: Options) -> Iterable[int]:
        """The moments (Unix ns) from which on some event may be judged otherwise than before."""


class RateIndicator(Indicator, Protocol):
    """A member whose events make up slices in which a rate is kept or not; what is bad as "shed" is counted apart."""

    def promise(self, options: Options) -> Throughput:
        """What a slice is judged by."""


class DatedIndicator(Indicator, Protocol):
    """A member whose events have a time of their own: `DATED` tells that they are counted in the history, in the slot
    of that time, by whoever joins or closes them, and never on the request path. Their KIND is "prediction", or one
    that no edge reports.

    Of any member, `TICKETS_ONLY` may be True: its default alerts page nobody; and `LOSS_CLASS` be the class of its own
    bad reasons in explanations, such as "quality" (see `otelslo.loss_class`).
    """

    @property
    def DATED(self) -> bool:
        """True."""


class LabelIndicator(DatedIndicator, Protocol):
    """A member that judges predictions by their labels: its KIND is "prediction", and all facts are in `labelled`.

    Its options are `label_within` (ns; None: a label is waited for as long as predictions are kept), `otherwise` (what
    one is that lapsed: "bad" or "excluded"), `sample` (a `quality.sample.Sample`; None: all) and its own. `TEXTS`
    may be True of it: it compares outputs that are longer than a class; and `SETTLES_EXCLUDED`: what it settles without
    a label is excluded.
    """

    def check(self, options: Options) -> None:
        """Raises BadValue: these options make no promise together."""

    def keys_by(self, event: Event, options: Options) -> tuple[str, ...]:
        """As `keys`, with what the options make of the label."""

    def settled(self, labelled: Labelled, options: Options) -> bool:
        """Whether a prediction is judged without a label, and none can change what it is."""


class DailyIndicator(LabelIndicator, Protocol):
    """A member that is a value of a whole day, such as F1: one unit a UTC day, from counts that add up.

    `judge` says of a single prediction only whether it is a part of its day: good if so, else excluded. The days' own
    lines are its RULES. It has no `otherwise`: what lapsed is part of no day.
    """

    @property
    def DAILY(self) -> bool:
        """True."""

    def tally(self, labelled: Labelled, options: Options) -> Mapping[str, int]:
        """What a prediction that is a part of its day adds to it: counts by key, which may be taken back."""

    def day(self, sums: Mapping[str, int], options: Options) -> tuple[Outcome, Fraction | float | None]:
        """What a day of these sums is, and its value, None where it has none."""


class MeasuredIndicator(Indicator, Protocol):
    """A member whose events are made for each objective by ourselves, a probe's or a gauge's: `OWN_EVENTS` tells that
    the objective's name is their route, so that no other objective of the kind has them. `measures(options)` says for
    people what is measured.

    Any member may have `check(options)`, which raises BadValue where options make no promise together, and `SLICED`:
    the slices ("slice", "slice_target") that it is budgeted in where a definition does not say how.
    """

    @property
    def OWN_EVENTS(self) -> bool:
        """True."""

    def measures(self, options: Options) -> str:
        """Such as "loop_lag at or under 100ms"."""


class FittingIndicator(Indicator, Protocol):
    """A member whose options and `match` must make a promise together."""

    def fits(self, options: Options, match: Mapping[str, Any]) -> None:
        """Raises BadValue: they do not. `match` is as a definition shows it, `route` a list of globs or None."""


_NEEDED = ("KIND", "OPTIONS", "RULES", "keys", "answered", "judge")


def rule(key: str, happened: str, outcome: Outcome) -> Rule:
    """A line of the table that no latency changes."""
    return Rule(key, happened, outcome, outcome)


def http_keys(event: Event) -> tuple[str, ...]:
    """The keys of a request or a call: its ending, or for a complete one "404" and "4xx".

    Before "exception" comes the kind of failure that it is, such as "oom", and before that CASCADE if it is one. A
    status outside of 100 to 599 is treated as a 5xx, as RFC 9110 (section 15) tells clients to.
    """
    if event.ending is Ending.EXCEPTION and (event.failure or event.cascaded):
        cascade = (CASCADE,) if event.cascaded else ()
        return (
            (*cascade, event.failure, Ending.EXCEPTION.value) if event.failure else (*cascade, Ending.EXCEPTION.value)
        )
    if event.ending is not Ending.COMPLETE or event.status is None:
        return (event.ending.value,)
    in_range = 100 <= event.status <= 599
    return (str(event.status), f"{event.status // 100}xx" if in_range else "5xx")


def by_table(table: Mapping[str, Rule], keys: tuple[str, ...], options: Options) -> Judgement:
    """The judgement of the first key that has a rule; good if none has."""
    for key in keys:
        if key in table:
            return table[key].judgement(options)
    return always(GOOD)


def names() -> list[str]:
    """The names that `load` knows, ours and installed ones."""
    return sorted(_ours() | {point.name for point in entry_points(group=ENTRY_POINTS)})


def having(option: str) -> list[str]:
    """The names of those of ours that take an option."""
    return sorted(name for name in _ours() if option in load(name).OPTIONS)


def _ours() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}


def load(name: str, place: str = "indicator") -> Indicator:
    """The indicator of that name. DefinitionError, listing what exists, if there is none or it lacks a part."""
    if name in _ours():
        return cast("Indicator", importlib.import_module(f"{__name__}.{name}"))
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return _checked(point.load(), name, place)
    raise DefinitionError(place, f"unknown indicator {shown(name)}", nearest(name, names()), path=("indicator",))


def _checked(member: object, name: str, place: str) -> Indicator:
    missing = [part for part in _NEEDED if not hasattr(member, part)]
    if missing:
        problem = f"the installed indicator {shown(name)} has no {', '.join(missing)}"
        raise DefinitionError(place, problem, "Compare it with otelslo.indicators.Indicator", path=("indicator",))
    return cast("Indicator", member)
