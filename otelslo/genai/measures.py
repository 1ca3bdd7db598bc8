"""Counts model calls in the ring: one more commit for each, into rows made before, off the request path.

One `Measures` goes with one configuration and one ring. What a configuration names has its rows from the start; what
only calls tell (a model, an error) is counted in the overflow until its rows are made, about a second later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from otelslo.counters import Cell, add, make_counters
from otelslo.errors import OtelsloError, StateError
from otelslo.event import Event
from otelslo.genai.declared import GenAI
from otelslo.genai.instruments import (
    OPERATION_DURATION,
    REQUEST_DURATION,
    SERVER,
    TIME_PER_OUTPUT_CHUNK,
    TIME_PER_OUTPUT_TOKEN,
    TIME_TO_FIRST_CHUNK,
    TIME_TO_FIRST_TOKEN,
    TOKEN_USAGE,
    Instrument,
)
from otelslo.genai.series import MEANING, Combination, combination_in, group_of
from otelslo.genai.values import Measured, Usage, measured
from otelslo.rowkey import GEN_AI

if TYPE_CHECKING:
    from otelslo.ring.live import Ring

MOST_COMBINATIONS = 50
_MOST_KNOWN = 8 * MOST_COMBINATIONS  # refused ones too, of one process: a client may make up names of models
_OVERFLOW = Combination()
_DURATIONS = {True: ((REQUEST_DURATION, None),), False: ((OPERATION_DURATION, None),)}
_OTHERS = {
    True: ((TIME_TO_FIRST_TOKEN, None), (TIME_PER_OUTPUT_TOKEN, None)),
    False: (
        *((TIME_TO_FIRST_CHUNK, None), (TIME_PER_OUTPUT_CHUNK, None)),
        *((TOKEN_USAGE, "input"), (TOKEN_USAGE, "output")),
    ),
}
_Key = tuple[str, Combination]  # a side and a combination
_Cells = dict[tuple[Instrument, str | None], tuple[Cell, ...]]


class Measures:
    """The metrics of one configuration.

    Args:
        wanted: told that rows are to be made; must be quick.
        fault: counts a fault of ours (reason, detail); never raises.
    """

    def __init__(
        self,
        declared: Sequence[GenAI],
        ring: Ring,
        wanted: Callable[[], None],
        fault: Callable[[str, str], None],
    ) -> None:
        self._declared = declared
        self._ring = ring
        self._tell_wanted = wanted
        self._fault = fault
        self._cells: dict[_Key, _Cells] = {}
        self._wanted: dict[_Key, None] = {}
        self._seen: set[Combination] = set()
        self._rows_seen = 0
        for one in declared:
            self._make((one.side, _OVERFLOW))
            self._make((one.side, Combination(*one.attributes({}))))
        self.make()

    # ── while calls run ────────────────────────────────────────────────────────────────────────────────────────────
    def of(self, kind: str, route: str | None, method: str) -> Measure | None:
        """What counts calls like this; None: nothing does. To be asked once a site."""
        for one in self._declared:
            if one.covers.covers(kind, route, method, ""):
                return Measure(one, self)
        return None

    def any_of(self, kind: str) -> bool:
        """Whether some calls of that kind are counted."""
        return any(one.covers.kind == kind for one in self._declared)

    def count(self, declared: GenAI, event: Event, usage: Usage | None) -> None:
        """Count an event that has just ended. Never raises."""
        try:
            names = declared.attributes(event.attributes)
            numbers: dict[Cell, int] = {}
            for one in measured(declared.side, event, usage):
                _add_up(numbers, one, self._cells_of((declared.side, Combination(*names, one.error)), one))
            if numbers:
                add(self._ring, numbers)
        except StateError as e:
            self._fault("not_attached", f"a call was not counted in gen_ai metrics: {e}")
        except Exception as e:
            self._fault("internal", f"a call was not counted in gen_ai metrics: {type(e).__name__}: {e}")

    def _cells_of(self, key: _Key, one: Measured) -> tuple[Cell, ...]:
        """Of its own series, or of the overflow's; () where there is no room even for that."""
        found = self._cells.get(key)
        if found is None:
            if len(self._wanted) < MOST_COMBINATIONS and len(self._cells) < _MOST_KNOWN:
                self._wanted[key] = None
                self._tell_wanted()
            found = self._cells.get((key[0], _OVERFLOW), {})
        return found.get((one.instrument, one.token), ())

    # ── off the request path ───────────────────────────────────────────────────────────────────────────────────────
    def make(self) -> None:
        """Adopt the rows that other workers have made, and make those of combinations that calls have named; past the
        most of a host they stay in the overflow."""
        if not self._declared:
            return
        self._adopt()
        for key in list(self._wanted):
            with self._ring.making:  # between looking and making nobody else makes one: the limit is the host's
                self._adopt()
                if key not in self._cells and (key[1] in self._seen or len(self._seen) < MOST_COMBINATIONS):
                    self._make(key)
                elif key not in self._cells:
                    self._cells[key] = self._cells.get((key[0], _OVERFLOW), {})
            self._wanted.pop(key, None)

    def _adopt(self) -> None:
        reader = self._ring.reader
        rows = reader.rows
        for row in range(self._rows_seen, rows):
            key = combination_in(reader.row_name(row))
            if key is not None:
                self._seen.add(key[1])
                if key not in self._cells and (key[0], _OVERFLOW) in self._cells:
                    self._make(key)
        self._rows_seen = rows

    def _make(self, key: _Key) -> None:
        """The rows of a combination: a failed call has a duration, and nothing else to tell."""
        side, combination = key
        is_server = side == SERVER
        wanted = _DURATIONS[is_server] + (_OTHERS[is_server] if combination.error is None else ())
        try:
            self._cells[key] = {
                (instrument, token): make_counters(
                    self._ring, GEN_AI, MEANING, group_of(instrument, combination.attributes(token)), instrument.names
                )
                for instrument, token in wanted
            }
        except OtelsloError as e:
            self._cells[key] = self._cells.get((side, _OVERFLOW), {})
            self._fault("capacity", f"{e}: gen_ai metrics of {combination.attributes()} are in the overflow")


class Measure:
    """What counts the calls of one site."""

    __slots__ = ("_declared", "_measures")

    def __init__(self, declared: GenAI, measures: Measures) -> None:
        self._declared = declared
        self._measures = measures

    def count(self, event: Event, usage: Usage | None) -> None:
        """Count an event that has just ended. Never raises."""
        self._measures.count(self._declared, event, usage)


def _add_up(numbers: dict[Cell, int], one: Measured, cells: tuple[Cell, ...]) -> None:
    if cells:
        for value in one.values:
            cell = cells[one.instrument.bucket_of(value)]
            numbers[cell] = numbers.get(cell, 0) + 1
        numbers[cells[-1]] = numbers.get(cells[-1], 0) + sum(one.values)
