"""The history in SQLite: what a rebuild, a decision and a reader can rely on, committed about once a second.

One transaction holds everything of one snapshot: the latest totals of all rows as one blob, closed slots, losses,
budget points and the fencing number. All values are absolute and every write is an upsert: repeating changes nothing.

**Who keeps what until when.** A commit that raised has saved nothing that counts as saved: the caller keeps its pending
closes and losses and offers them again, in the same order and before newer ones, until a commit returns. While
`needs_full` is true the file lacks history (it is new, was replaced, or the disk failed): offer every close and loss
that the ring still holds, with `full=True`.

**Losses** are identified by all their fields but count and trace id. Equal ones within one snapshot are added up;
across snapshots the larger count stays, so a new leader may offer a whole loss log again.

**Size**, a day: 8.5 KB for each row with events in every slot (288 slots of about 30 bytes), 11 KB for each SLO and
group (one point per 5 minutes and one per hour, about 35 bytes each), about 200 bytes for each loss. By default slots
and 5-minute points stay 35 days, or 5 days longer than the longest window (of each row one older slot stays too),
hourly points 400 days, at most 100,000 losses and 10,000 journal lines. Expired entries go in small batches; the file
does not shrink, its space is used again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from otelslo.errors import StateError
from otelslo.exporters.sqlite_journal import clean, put_journal
from otelslo.exporters.sqlite_limits import Limits
from otelslo.exporters.sqlite_notes import Notes, Told, put_told
from otelslo.exporters.sqlite_reader import (
    Names,
    Reader,
    damaged,
    digest_of,
    read_names,
    read_saved,
)
from otelslo.exporters.sqlite_retention import FIVE_MINUTES_NS, HOUR_NS, MARGIN_NS, RETENTION_NS, Retention
from otelslo.exporters.sqlite_schema import (
    SQLITE_ERRORS,
    Damaged,
    Identity,
    StoreUnavailable,
    file_identity,
    open_file,
    sorted_out,
)
from otelslo.exporters.sqlite_writes import (
    Outdated,
    Point,
    check_forward,
    meta,
    points_of,
    put_clock,
    put_latest,
    put_losses,
    put_slots,
    ring_number,
)
from otelslo.revisions import revisions
from otelslo.snapshot import Snapshot

__all__ = ["Fenced", "Outdated", "Reader", "Store", "StoreUnavailable"]

_FORK_WAIT_S = 5.0


class Fenced(StateError):
    """Another leader has taken over: this one must stop committing and deciding."""


class Store(Reader):
    """The writing side, for the leader and for short notes by others. Safe to share between threads.

    The file is opened when first needed. A forked child drops the inherited connection and opens its own.

    Args:
        retention_ns: how long slots, losses and 5-minute points stay; default 35 days.
        longest_window_ns: the longest window that is counted; slots stay 5 days longer than that, whatever is asked.
    """

    def __init__(self, path: Path, retention_ns: int | None = None, longest_window_ns: int = 0) -> None:
        super().__init__(path)
        self.needs_full = True
        self._asked_ns = RETENTION_NS if retention_ns is None else retention_ns
        self.keep(longest_window_ns)
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._identity: Identity = None
        self._wall_ns: int | None = None
        self._suspect = True
        self._disk_failed = False
        self._notices: list[str] = []
        self._findings: list[str] = []
        self._fencing = 0
        self._names: tuple[object, bytes] | None = None
        self._series: dict[tuple[str, ...], int] = {}
        _STORES.add(self)

    def keep(self, longest_window_ns: int) -> None:
        """Keep slots for windows of this length, from the next commit on."""
        needed_ns = longest_window_ns + MARGIN_NS if longest_window_ns else 0
        self._retention = Retention(slots_ns=max(self._asked_ns, needed_ns))

    def open(self, now_wall_ns: int) -> list[str]:
        """Open, judge and if need be replace the file; `now_wall_ns` (Unix ns) names what is set aside.

        Returns notices for people. Raises StateError for a file of a newer otelslo (it is left alone) and
        StoreUnavailable when there is no getting at it; never anything for a damaged one.
        """
        with self._lock:
            self._wall_ns = now_wall_ns
            self._usable()
            return self.take_notices()

    def take_notices(self) -> list[str]:
        """What has happened to the file since the last call: set aside, replaced, begun anew. Also in the journal."""
        with self._lock:
            notices, self._notices = self._notices, []
            return notices

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            self._drop()

    def acquire_leadership(self, worker: str, now_wall_ns: int) -> int:
        """A fencing number higher than any before; from now on commits with a lower one raise Fenced.

        It starts from the wall clock, so that it also grows when the file, and the number in it, were lost.
        """
        with self._writing(now_wall_ns) as connection:
            number = max((meta(connection, "fencing") or 0) + 1, self._fencing + 1, now_wall_ns)
            entries = {"fencing": number, "leader": clean(worker), "leader_since_ns": now_wall_ns}
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", entries.items())
        self._fencing = number
        return number

    @property
    def notes(self) -> Notes:
        """Exclusions, annotations, alert states and notices."""
        return Notes(self._fetch, self._writing)

    @property
    def limits(self) -> Limits:
        """What was last observed of each limit."""
        return Limits(self._fetch, self._writing)

    def commit(
        self,
        snapshot: Snapshot,
        fencing: int,
        statuses_json: str | None = None,
        *,
        full: bool = False,
        told: Told | None = None,
    ) -> None:
        """Commit one snapshot, durably, or raise and leave the file as it was.

        `statuses_json` is a list of status objects (`slo, group, target, window, good, bad, excluded` are kept), given
        when a 5-minute slot closes. `full` says that closes and losses hold all the ring still has. `told` is what was
        decided of alerts from this very snapshot. Raises Fenced,
        Outdated, StoreUnavailable (offer the same again later), ValueError for statuses that are none.
        """
        points = points_of(statuses_json) if statuses_json is not None else []
        with self._writing(snapshot.wall_ns) as connection:
            self._check_fencing(connection, fencing)
            ring = ring_number(connection, snapshot.ring_id)
            closed_ns = check_forward(connection, ring, snapshot)
            names = self._put_names(connection, ring, snapshot)
            put_latest(connection, ring, snapshot, closed_ns, names[1])
            put_slots(connection, ring, snapshot.closes)
            put_losses(connection, ring, snapshot)
            put_clock(connection, ring, snapshot)
            self._put_budgets(connection, snapshot.wall_ns, points)
            if told is not None:
                put_told(connection, told, snapshot.wall_ns)
            if full:
                connection.execute("DELETE FROM meta WHERE key = 'incomplete'")
            if snapshot.closes or snapshot.losses or points:
                self._retention.expire(connection, snapshot.wall_ns, len(snapshot.losses))
        self._names = names
        self._fencing = max(self._fencing, fencing)
        if full:
            self.needs_full = self._disk_failed = False

    def append_journal(self, kind: str, text: str, wall_ns: int) -> None:
        """Record something that a review must find later. Anyone may, leader or not. Raises StoreUnavailable."""
        with self._writing(wall_ns) as connection:
            put_journal(connection, kind, text, wall_ns)

    def _check_fencing(self, connection: sqlite3.Connection, fencing: int) -> None:
        stored = meta(connection, "fencing") or 0
        if stored > fencing:
            leader = meta(connection, "leader")
            raise Fenced(f"{self.path}: {leader} leads with number {stored}, this is {fencing}. Stop leading")
        if stored < fencing:  # the file was replaced after this leader had taken its number
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('fencing', ?)", (fencing,))

    def _put_names(self, connection: sqlite3.Connection, ring: int, snapshot: Snapshot) -> tuple[object, bytes]:
        wanted: Names = (snapshot.row_keys, snapshot.births_ns, snapshot.histogram_keys, snapshot.config)
        key = (snapshot.ring_id, wanted)
        if self._names is not None and self._names[0] == key:
            return self._names
        keys, births_ns, histograms, config = read_names(connection, ring)
        for part, stored, offered in (
            ("row_keys", keys, wanted[0]),
            ("births_ns", births_ns, wanted[1]),
            ("histogram_keys", histograms, wanted[2]),
        ):
            if stored != offered[: len(stored)]:
                raise Outdated(f"Snapshot.{part} must only grow for one ring, but differ from those in {self.path}")
        rows = enumerate(zip(wanted[0], wanted[1], strict=True))
        new_rows = [(ring, row, name, birth_ns) for row, (name, birth_ns) in rows if row >= len(keys)]
        new_histograms = [(ring, number, name) for number, name in enumerate(wanted[2]) if number >= len(histograms)]
        connection.executemany("INSERT INTO ring_rows VALUES (?, ?, ?, ?)", new_rows)
        connection.executemany("INSERT INTO histograms VALUES (?, ?, ?)", new_histograms)
        if config != snapshot.config:
            entry = (ring, snapshot.wall_ns, snapshot.config)
            connection.execute("INSERT INTO configs (ring, wall_ns, config) VALUES (?, ?, ?)", entry)
            for line in revisions(config or self._any_config(connection), snapshot.config):
                put_journal(connection, "objective", line, snapshot.wall_ns)
        return key, digest_of(snapshot.ring_id, *wanted)

    def _any_config(self, connection: sqlite3.Connection) -> str:
        """The newest configuration but the one just entered: a new ring has none of its own yet."""
        found = connection.execute("SELECT config FROM configs ORDER BY id DESC LIMIT 1 OFFSET 1").fetchone()
        return found[0] if found else ""

    def _put_budgets(self, connection: sqlite3.Connection, wall_ns: int, points: list[Point]) -> None:
        entries = []
        for series, counts in points:
            number = self._series_number(connection, series)
            entries += [
                (number, span_ns, wall_ns - wall_ns % span_ns, *counts) for span_ns in (FIVE_MINUTES_NS, HOUR_NS)
            ]
        connection.executemany("INSERT OR REPLACE INTO budgets VALUES (?, ?, ?, ?, ?, ?)", entries)

    def _series_number(self, connection: sqlite3.Connection, series: tuple[str, ...]) -> int:
        if series not in self._series:
            connection.execute("INSERT OR IGNORE INTO series VALUES (NULL, ?, ?, ?, ?)", series)
            self._series[series] = connection.execute(
                'SELECT series FROM series WHERE (slo, "group", target, "window") = (?, ?, ?, ?)', series
            ).fetchone()[0]
        return self._series[series]

    def writing(self, wall_ns: int) -> AbstractContextManager[sqlite3.Connection]:
        """A short transaction of its own, for whoever writes tables of his own; `wall_ns` is now (Unix ns).

        Raises StoreUnavailable.
        """
        return self._writing(wall_ns)

    @contextmanager
    def _writing(self, wall_ns: int) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._wall_ns = wall_ns
            with self._transaction("BEGIN IMMEDIATE") as connection:
                yield connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = self._usable()
        try:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
        except Damaged as found:
            self._suspect = True
            self._drop()
            raise damaged(self.path, found) from found
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            self._roll_back(connection)
            raise
        except SQLITE_ERRORS as error:
            self._roll_back(connection)
            raise self._judged(error) from error
        except BaseException:
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        self._names, self._series = None, {}
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()

    def _judged(self, error: Exception) -> StoreUnavailable:
        finding = sorted_out(error, self.path)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._drop()
        # After a failed fsync the kernel may hold pages as clean that never reached the disk: write all of it again.
        self._disk_failed = self._disk_failed or code == sqlite3.SQLITE_IOERR
        self.needs_full = self.needs_full or self._disk_failed
        if isinstance(finding, Damaged):
            self._suspect = True
            return damaged(self.path, finding)
        return finding

    def _usable(self) -> sqlite3.Connection:
        if self._pid != os.getpid():
            self._abandon()
        if self._connection is not None and file_identity(self.path) != self._identity:
            self._findings.append(f"{self.path}: was deleted or replaced while in use; opened anew")
            self._suspect = True
            self._drop()
        if self._connection is None:
            self._connection = self._opened()
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        wall_ns = self._wall_ns
        if wall_ns is None:
            raise StateError(f"{self.path}: the store is not open. Call open(now_wall_ns) first")
        connection, self._identity = open_file(self.path, wall_ns, self._findings, self._verify, self._suspect)
        self._suspect = False
        try:
            self.needs_full = self._disk_failed or bool(meta(connection, "incomplete"))
            for finding in self._findings:
                put_journal(connection, "store", finding, wall_ns)
        except SQLITE_ERRORS as error:
            connection.close()
            raise self._judged(error) from error
        self._notices += self._findings
        self._findings = []
        return connection

    def _verify(self, connection: sqlite3.Connection) -> None:
        if not isinstance(meta(connection, "fencing"), int | None):
            raise Damaged("its fencing number is garbled")
        read_saved(connection, self._slots_of)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._names, self._series = None, {}
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _abandon(self) -> None:
        """In a forked child: let go of the parent's connection without closing it. Closing would roll back, in the
        file, what the parent is about to commit; even the garbage collector must not do it."""
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._names, self._series = None, {}
        if self._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None


_STORES: weakref.WeakSet[Store] = weakref.WeakSet()
_held: list[Store] = []


def _before_fork() -> None:
    # Between transactions SQLite's own view of its locks is empty, and a child may open the file with a clean slate.
    _held.extend(store for store in list(_STORES) if store._lock.acquire(timeout=_FORK_WAIT_S))


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()


def _after_fork_in_child() -> None:
    _held.clear()
    for store in list(_STORES):
        store._abandon()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
