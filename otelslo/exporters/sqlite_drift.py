"""Drift in the history: baselines, rows gathered for one, where open windows began, and what was found of closed ones.

Whoever closes a window reads where it began and moves it on in one transaction, so that no window is closed twice,
whoever leads. Times are Unix nanoseconds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_WINDOWS = 500  # of an objective that are kept
_Fetch = Callable[[str, tuple[object, ...]], list[Any]]


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """The window that an objective counts into: what each histogram held when it began, or since when it counts.

    `read_wall_ns` is when that was read: what came between `start_wall_ns` and then is not in the window.
    """

    start_wall_ns: int
    read_wall_ns: int
    totals: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """What was found of one feature in one window; `data` is as `otelslo drift show --json` prints it.

    It holds the rows that came from `from_wall_ns` until `read_wall_ns`, the first commit after its end.
    """

    slo: str
    stream: str
    feature: str
    start_wall_ns: int
    end_wall_ns: int
    from_wall_ns: int
    read_wall_ns: int
    state: str
    data: Mapping[str, Any]


class DriftReader:
    """The questions. Each may raise StoreUnavailable."""

    def __init__(self, fetch: _Fetch) -> None:
        self._fetch = fetch

    def windows(self, slo: str | None = None, last: int = 1) -> list[ClosedWindow]:
        """The last closed windows of one objective or all, newest first, by feature."""
        if not self._there():
            return []
        found = self._fetch(
            "SELECT slo, stream, feature, start_wall_ns, end_wall_ns, from_wall_ns, read_wall_ns, state, data FROM"
            " (SELECT *, dense_rank() OVER (PARTITION BY objective ORDER BY start_wall_ns DESC) AS age,"
            " max(end_wall_ns) OVER (PARTITION BY objective) AS newest FROM drift_windows)"
            " WHERE age <= ? AND (? IS NULL OR slo = ?) ORDER BY slo, newest DESC, start_wall_ns DESC, feature",
            (last, slo, slo),
        )
        return [_closed(row) for row in found]

    def open_window(self, objective: str) -> OpenWindow | None:
        """The window that is open, None before the first."""
        if not self._there():
            return None
        return _opened(self._fetch(_OPEN_SQL, (objective,)))

    def baselines(self, stream: str, source: str) -> dict[str, Mapping[str, Any]]:
        """Baselines as they were kept, by feature; one that could not be made holds an `error`."""
        if not self._there():
            return {}
        found = self._fetch(
            "SELECT feature, data FROM drift_baselines WHERE (stream, source) = (?, ?)", (stream, source)
        )
        return {feature: json.loads(data) for feature, data in found}

    def gathered(self, stream: str, source: str) -> int:
        """How many rows are gathered for a live baseline."""
        if not self._there():
            return 0
        return int(self._fetch(_GATHERED_SQL, (stream, source))[0][0])

    def _there(self) -> bool:
        return bool(self._fetch("SELECT 1 FROM sqlite_master WHERE name = 'drift_windows'", ()))


def _closed(row: Any) -> ClosedWindow:
    slo, stream, feature, start_ns, end_ns, from_ns, read_ns, state, data = row
    return ClosedWindow(slo, stream, feature, start_ns, end_ns, from_ns, read_ns, state, json.loads(data))


_BASELINES_SQL = "SELECT feature, data FROM drift_baselines WHERE (stream, source) = (?, ?)"
_GATHERED_SQL = "SELECT coalesce(sum(rows), 0) FROM drift_gathered WHERE (stream, source) = (?, ?)"
_OPEN_SQL = "SELECT histogram, start_wall_ns, read_wall_ns, totals FROM drift_open WHERE objective = ?"


def opened(connection: sqlite3.Connection, objective: str) -> OpenWindow | None:
    """`DriftReader.open_window`, inside a transaction."""
    return _opened(connection.execute(_OPEN_SQL, (objective,)).fetchall())


def _opened(rows: list[Any]) -> OpenWindow | None:
    if not rows:
        return None
    totals = {histogram: tuple(json.loads(held)) for histogram, _, _, held in rows if histogram}
    return OpenWindow(max(row[1] for row in rows), max(row[2] for row in rows), totals)


def put_open(connection: sqlite3.Connection, objective: str, window: OpenWindow) -> None:
    """Put the window in the place of the one before; the one without a histogram says that it is there at all."""
    connection.execute("DELETE FROM drift_open WHERE objective = ?", (objective,))
    entries = [(name, json.dumps(held)) for name, held in window.totals.items()] or [("", "[]")]
    connection.executemany(
        "INSERT INTO drift_open (objective, histogram, start_wall_ns, read_wall_ns, totals) VALUES (?, ?, ?, ?, ?)",
        [(objective, name, window.start_wall_ns, window.read_wall_ns, held) for name, held in entries],
    )


def put_closed(connection: sqlite3.Connection, objective: str, windows: Iterable[ClosedWindow]) -> None:
    """Keep what was found, and the last MOST_WINDOWS of the objective."""
    connection.executemany(
        "INSERT OR REPLACE INTO drift_windows (objective, start_wall_ns, feature, slo, stream, end_wall_ns,"
        " from_wall_ns, read_wall_ns, state, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(objective, one.start_wall_ns, one.feature, one.slo, one.stream, one.end_wall_ns, one.from_wall_ns),
                *(one.read_wall_ns, one.state, json.dumps(one.data)),
            )
            for one in windows
        ],
    )
    connection.execute(
        "DELETE FROM drift_windows WHERE objective = ? AND start_wall_ns < (SELECT min(start_wall_ns) FROM (SELECT"
        " DISTINCT start_wall_ns FROM drift_windows WHERE objective = ? ORDER BY start_wall_ns DESC LIMIT ?))",
        (objective, objective, MOST_WINDOWS),
    )


def put_baselines(
    connection: sqlite3.Connection, stream: str, source: str, baselines: Mapping[str, Mapping[str, Any]], wall_ns: int
) -> None:
    """Keep baselines in the place of those of the same source, and drop what was gathered for them."""
    connection.execute("DELETE FROM drift_baselines WHERE (stream, source) = (?, ?)", (stream, source))
    connection.executemany(
        "INSERT INTO drift_baselines (stream, source, feature, data, wall_ns) VALUES (?, ?, ?, ?, ?)",
        [(stream, source, feature, json.dumps(data), wall_ns) for feature, data in baselines.items()],
    )
    connection.execute("DELETE FROM drift_gathered WHERE (stream, source) = (?, ?)", (stream, source))


def kept_baselines(connection: sqlite3.Connection, stream: str, source: str) -> dict[str, Mapping[str, Any]]:
    """`DriftReader.baselines`, inside a transaction."""
    return _baselines(connection.execute(_BASELINES_SQL, (stream, source)).fetchall())


def _baselines(rows: list[Any]) -> dict[str, Mapping[str, Any]]:
    return {feature: json.loads(data) for feature, data in rows}


def gather(connection: sqlite3.Connection, stream: str, source: str, rows: int, columns: str) -> None:
    """Add rows for a live baseline: a JSON object of columns by feature, made before the transaction."""
    connection.execute(
        "INSERT INTO drift_gathered (stream, source, rows, data) VALUES (?, ?, ?, ?)", (stream, source, rows, columns)
    )


def gathered_rows(
    connection: sqlite3.Connection, stream: str, source: str, enough: int
) -> tuple[int, list[Mapping[str, list[Any]]]]:
    """How many rows are gathered; if that is enough, also their columns in pieces, in the order of writing."""
    (rows,) = connection.execute(_GATHERED_SQL, (stream, source)).fetchone()
    if rows < enough:
        return rows, []
    sql = "SELECT data FROM drift_gathered WHERE (stream, source) = (?, ?) ORDER BY id"
    return rows, [json.loads(data) for (data,) in connection.execute(sql, (stream, source))]
