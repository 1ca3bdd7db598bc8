"""What each day of F1, BLEU or ROUGE was worth, beside its bar: the budget knows only whether it was met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, Protocol

from otelslo.counts import Counts
from otelslo.dated import SLOT_NS, DatedCounts, DatedRow
from otelslo.definition import Definition
from otelslo.kept import Row
from otelslo.status import Status
from otelslo.window import DAY_NS, SECOND_NS

MOST_DAYS = 7
_OUTCOMES = {Counts(1, 0, 0): "good", Counts(0, 1, 0): "bad", Counts(0, 0, 1): "excluded"}


class Values(Protocol):
    """The days of a history. May raise StateError."""

    def rows(self) -> list[Row]: ...
    def values(self, row: int, since_wall_ns: int) -> list[tuple[int, float | None]]: ...


@dataclass(frozen=True, slots=True)
class Day:
    """A UTC day that has been counted: its value (None where it has none), and what it counted as.

    Only what it counted as was decided exactly: the value is kept as the nearest float.
    """

    start_wall_ns: int
    value: float | None
    bar: Fraction
    outcome: str

    @property
    def date(self) -> str:
        return datetime.fromtimestamp(self.start_wall_ns // SECOND_NS, UTC).date().isoformat()

    @property
    def text(self) -> str:
        """ "0.8123", never rounded across the bar."""
        if self.value is None:
            return "no value"
        every = [f"{self.value:.{digits}g}" for digits in range(4, 18)]
        right = (text for text in every if (Fraction(text) >= self.bar) == (self.outcome == "good"))
        return every[0] if self.outcome == "excluded" else next(right, every[0])

    def to_json(self) -> dict[str, Any]:
        return {"day": self.date, "value": self.value, "bar": float(self.bar), "counted": self.outcome}


Days = Mapping[tuple[str, str | None], Sequence[Day]]


def days(
    definitions: Iterable[Definition],
    found: Iterable[Status],
    labels: Values,
    dated: DatedCounts,
    excluded: Callable[[str, int], bool],
) -> Days:
    """Of each daily objective and group the newest days of its window, the newest first.

    Args:
        excluded: whether what lies at a moment (Unix ns) is excluded after the fact of an objective.

    Raises:
        StateError: the history cannot be read.
    """
    bars = {(one.name, one.meaning): one.day_bar for one in definitions if one.day_bar is not None}
    of = {(one.slo, one.group): one for one in found}
    told: dict[tuple[str, str | None], list[Day]] = {}
    for row in labels.rows() if bars else ():
        bar, status = bars.get((row.slo, row.meaning)), of.get((row.slo, row.group))
        if bar is not None and status is not None:
            counted, values = dated.row(row.key), labels.values(row.number, status.start_ns)
            each = (_day(at_ns, value, bar, counted, partial(excluded, row.slo)) for at_ns, value in reversed(values))
            told[row.slo, row.group] = list(islice((day for day in each if day is not None), MOST_DAYS))
    return told


def _day(
    start_ns: int, value: float | None, bar: Fraction, counted: DatedRow | None, excluded: Callable[[int], bool]
) -> Day | None:
    """None if it counts as none: all that it was made of was taken back."""
    last_ns = start_ns + DAY_NS - SLOT_NS
    outcome = None if counted is None else _OUTCOMES.get(counted.between(last_ns, last_ns))
    return None if outcome is None else Day(start_ns, value, bar, "excluded" if excluded(last_ns) else outcome)


def plain(found: Sequence[Day] | None) -> list[dict[str, Any]] | None:
    """As `--json` has them; None where no days are counted."""
    return None if found is None else [one.to_json() for one in found]


def told(found: Sequence[Day]) -> str:
    """ "2026-11-27 0.8123, bar 0.8; before 0.79 (bad), 0.85"."""
    newest, *before = found[:3]
    text = f"{newest.date} {_counted(newest)}, bar {bar_text(newest)}"
    return f"{text}; before {', '.join(_counted(one) for one in before)}" if before else text


def bar_text(one: Day) -> str:
    return f"{float(one.bar):g}"


def _counted(one: Day) -> str:
    """Of what has a value, that it was good needs no word."""
    return one.text if one.outcome == "good" else f"{one.text} ({one.outcome})"
