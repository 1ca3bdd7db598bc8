"""Exclusions, annotations, the states of alerts, and the notices that are still to be sent.

Exclusions and annotations are people's, written by commands at any time. The states of alerts and new notices are
written by the leader in the transaction of the counts that they were decided from; whoever leads next goes on from
there, so that a leader that dies between deciding and sending loses nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

from otelslo.exporters.sqlite_journal import clean, put_journal
from otelslo.notes import Annotation, Exclusion

_ANNOTATION = [field.name for field in fields(Annotation)]
AlertKey = tuple[str, str | None, str]


@dataclass(frozen=True, slots=True)
class StoredParcel:
    """One notice for one channel, not yet delivered; `payload` is the notice as JSON."""

    id: int
    key: str
    channel: str
    created_wall_ns: int
    tries: int
    next_wall_ns: int
    payload: str


@dataclass(frozen=True, slots=True)
class Told:
    """What the leader decided of alerts in one turn: states by key (None: to be forgotten), and new notices.

    `parcels` are (idempotency key, channel, notice as JSON), in the order in which they are to be sent.
    """

    states: Mapping[AlertKey, Mapping[str, Any] | None]
    parcels: tuple[tuple[str, str, str], ...] = ()
    journal: tuple[str, ...] = ()


class NotesReader:
    """The questions. Each method may raise StoreUnavailable."""

    def __init__(self, fetch: Callable[[str, tuple[object, ...]], list[Any]]) -> None:
        self._fetch = fetch

    def exclusions(self, *, undone: bool = False) -> list[Exclusion]:
        """In the order in which they were made; `undone` has those too that are in force no more."""
        rows = self._fetch(
            "SELECT id, slo, start_wall_ns, end_wall_ns, reason, created_wall_ns, undone_wall_ns FROM exclusions"
            " WHERE ? OR undone_wall_ns IS NULL ORDER BY id",
            (undone,),
        )
        return [Exclusion(*row) for row in rows]

    def annotations(self, since_wall_ns: int = 0, limit: int = 10_000) -> list[Annotation]:
        """Those that go on or ended after `since_wall_ns`, newest start first."""
        rows = self._fetch(
            f"SELECT {', '.join(_ANNOTATION)} FROM annotations"
            " WHERE end_wall_ns IS NULL OR end_wall_ns >= ? ORDER BY start_wall_ns DESC, id DESC LIMIT ?",
            (since_wall_ns, limit),
        )
        return [Annotation(**dict(zip(_ANNOTATION, row, strict=True)) | {"planned": bool(row[7])}) for row in rows]

    def alerts(self) -> dict[AlertKey, dict[str, Any]]:
        """The states of all alerts, by objective, group and name."""
        rows = self._fetch('SELECT slo, "group", name, data FROM alerts', ())
        return {(slo, json.loads(group), name): json.loads(data) for slo, group, name, data in rows}

    def parcels(self, limit: int = 1_000) -> list[StoredParcel]:
        """What is not yet delivered, oldest first; at most `limit` for each channel: one that takes nothing hides none
        of the others'."""
        columns = "id, key, channel, created_wall_ns, tries, next_wall_ns, payload"
        rows = self._fetch(
            f"SELECT {columns} FROM outbox WHERE id IN (SELECT id FROM (SELECT id, row_number()"
            " OVER (PARTITION BY channel ORDER BY id) AS place FROM outbox) WHERE place <= ?) ORDER BY id",
            (limit,),
        )
        return [StoredParcel(*row) for row in rows]


class Notes(NotesReader):
    """The writing side: short transactions of their own, by anybody. `wall_ns` is now."""

    def __init__(
        self,
        fetch: Callable[[str, tuple[object, ...]], list[Any]],
        writing: Callable[[int], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        super().__init__(fetch)
        self._writing = writing

    def exclude(self, slo: str | None, start_wall_ns: int, end_wall_ns: int, reason: str, wall_ns: int) -> int:
        """Exclude a span from now on; its number."""
        with self._writing(wall_ns) as connection:
            entry = (slo, start_wall_ns, end_wall_ns, clean(reason), wall_ns)
            number = connection.execute(
                "INSERT INTO exclusions (slo, start_wall_ns, end_wall_ns, reason, created_wall_ns)"
                " VALUES (?, ?, ?, ?, ?)",
                entry,
            ).lastrowid
            put_journal(connection, "exclusion", f"{number} of {slo or 'all objectives'}: {reason}", wall_ns)
        assert number is not None
        return number

    def undo_exclusion(self, number: int, wall_ns: int) -> bool:
        """Whether there was such an exclusion in force."""
        with self._writing(wall_ns) as connection:
            found = connection.execute(
                "UPDATE exclusions SET undone_wall_ns = ? WHERE id = ? AND undone_wall_ns IS NULL", (wall_ns, number)
            ).rowcount
            if found:
                put_journal(connection, "exclusion", f"{number} was undone", wall_ns)
        return bool(found)

    def annotate(
        self,
        kind: str,
        slo: str | None,
        start_wall_ns: int,
        end_wall_ns: int | None,
        version: str,
        text: str,
        planned: bool,
        wall_ns: int,
    ) -> int:
        """Write an annotation; its number."""
        entry = (kind, slo, start_wall_ns, end_wall_ns, clean(version), clean(text), int(planned), wall_ns)
        with self._writing(wall_ns) as connection:
            number = connection.execute(
                "INSERT INTO annotations (kind, slo, start_wall_ns, end_wall_ns, version, text, planned,"
                " created_wall_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                entry,
            ).lastrowid
        assert number is not None
        return number

    def end_annotation(self, number: int, end_wall_ns: int, wall_ns: int) -> bool:
        """Whether there was such an annotation going on."""
        with self._writing(wall_ns) as connection:
            found = connection.execute(
                "UPDATE annotations SET end_wall_ns = max(?, start_wall_ns) WHERE id = ? AND end_wall_ns IS NULL",
                (end_wall_ns, number),
            ).rowcount
        return bool(found)

    def post(
        self, parcels: Iterable[tuple[str, str, str]], wall_ns: int, journal: tuple[str, str] | None = None
    ) -> None:
        """Have notices sent by the leader, whoever that is (key, channel, payload); and a journal line (kind, text)."""
        with self._writing(wall_ns) as connection:
            put_parcels(connection, parcels, wall_ns)
            if journal is not None:
                put_journal(connection, *journal, wall_ns)

    def delivered(self, number: int, wall_ns: int) -> None:
        with self._writing(wall_ns) as connection:
            connection.execute("DELETE FROM outbox WHERE id = ?", (number,))

    def not_delivered(self, number: int, next_wall_ns: int, error: str, wall_ns: int) -> None:
        with self._writing(wall_ns) as connection:
            connection.execute(
                "UPDATE outbox SET tries = tries + 1, next_wall_ns = ?, error = ? WHERE id = ?",
                (next_wall_ns, clean(error), number),
            )


def put_told(connection: sqlite3.Connection, told: Told, wall_ns: int) -> None:
    """Inside the leader's commit."""
    for (slo, group, name), state in told.states.items():
        key = (slo, json.dumps(group), name)
        if state is None:
            connection.execute('DELETE FROM alerts WHERE (slo, "group", name) = (?, ?, ?)', key)
        else:
            connection.execute("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?)", (*key, json.dumps(state)))
    put_parcels(connection, told.parcels, wall_ns)
    for text in told.journal:
        put_journal(connection, "alert", text, wall_ns)


def put_parcels(connection: sqlite3.Connection, parcels: Iterable[tuple[str, str, str]], wall_ns: int) -> None:
    """A key that a channel has already is not entered again."""
    connection.executemany(
        "INSERT OR IGNORE INTO outbox (key, channel, created_wall_ns, tries, next_wall_ns, payload)"
        " VALUES (?, ?, ?, 0, 0, ?)",
        [(key, channel, wall_ns, payload) for key, channel, payload in parcels],
    )
