"""What was last observed of each limit. Any process may write one, in a short transaction of its own; nobody else
needs to run for it. Numbers are kept as texts, since exact ones may be longer than SQLite's integers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

from otelslo.errors import StateError, shown
from otelslo.limits import Observation

_COLUMNS = "unit, value_num, value_den, since_wall_ns, at_wall_ns, state, state_since_wall_ns"
Judge = Callable[[Observation | None], Observation]


class LimitsReader:
    """The question. May raise StoreUnavailable."""

    def __init__(self, fetch: Callable[[str, tuple[object, ...]], list[Any]]) -> None:
        self._fetch = fetch

    def observations(self) -> dict[str, Observation]:
        """What was last observed, by the limit's name; what is no observation is left out."""
        found = {name: _observation(row) for name, *row in self._fetch(f"SELECT name, {_COLUMNS} FROM limits", ())}
        return {name: one for name, one in found.items() if one is not None}


class Limits(LimitsReader):
    """The writing side."""

    def __init__(
        self,
        fetch: Callable[[str, tuple[object, ...]], list[Any]],
        writing: Callable[[int], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        super().__init__(fetch)
        self._writing = writing

    def observe(self, name: str, judge: Judge, wall_ns: int) -> None:
        """Keep what `judge` makes of the last observation, at `wall_ns` (Unix ns). Raises StoreUnavailable."""
        with self._writing(wall_ns) as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM limits WHERE name = ?", (name,)).fetchone()
            kept = judge(None if row is None else _observation(row))
            put_observation(connection, name, kept)


def put_observation(connection: sqlite3.Connection, name: str, one: Observation) -> None:
    """Inside a transaction."""
    connection.execute(
        f"INSERT OR REPLACE INTO limits (name, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (name, *_row(one))
    )


def _row(one: Observation) -> tuple[object, ...]:
    value = (None, None) if one.value is None else (str(one.value.numerator), str(one.value.denominator))
    return (one.unit, *value, one.as_of_wall_ns, one.at_wall_ns, one.state, one.state_since_wall_ns)


def _observation(row: Any) -> Observation | None:
    unit, numerator, denominator, as_of_ns, at_ns, state, since_ns = row
    try:
        value = None if numerator is None else Fraction(int(numerator), int(denominator))
        if value is None and as_of_ns is None:
            raise StateError(f"{shown(row)} has no value")
        as_of_ns = None if as_of_ns is None else int(as_of_ns)
        return Observation(str(unit), value, as_of_ns, int(at_ns), str(state), int(since_ns))
    except (StateError, TypeError, ValueError, ZeroDivisionError):
        return None
