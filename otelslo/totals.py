"""The host's committed totals as any worker can tell them: for `/metrics` and for meters, read at most once a second.

Counters that two workers tell differently go back and forth, and a monitoring system counts each step back as a
restart: so all of them tell what the last commit holds, and the ring itself only where there is no commit to be had.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from otelslo.committed import CommittedRows
from otelslo.definition import Definition
from otelslo.engine import Engine
from otelslo.errors import OtelsloError, StateError
from otelslo.evaluate import Book, Rows, statuses
from otelslo.exporters.sqlite_reader import Reader as History
from otelslo.known import with_known
from otelslo.limits import LimitStatus
from otelslo.marks import Marks
from otelslo.notes import Marked
from otelslo.ring import state
from otelslo.ring.reader import Reader, open_reader
from otelslo.rowkey import RowKey
from otelslo.snapshot import BUCKET_WORDS, Saved, SavedLoss
from otelslo.status import Status
from otelslo.window import MINUTE_NS, SECOND_NS

FRESH_NS = SECOND_NS
_LOST_NS = MINUTE_NS  # without a commit for so long, and none to be read, the ring is all that there is
_MOST_LOSSES = 256
_Histogram = tuple[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Totals:
    """One reading. `at_ns` is when the totals were read from the ring and `read_ns` when this was read, in ring time.

    `committed` says that they are those of the last commit. `new_rows` are rows that have come since, at 0 so far;
    `histograms` pairs keys with their words (`kernels.bounds`); `losses` are the newest that are committed.
    `statuses` go by the marks and alerts of the database; `alerts_decided` is whether there are any to go by.
    """

    at_ns: int
    read_ns: int
    committed: bool
    definitions: tuple[Definition, ...]
    rows: Rows
    new_rows: tuple[tuple[RowKey, int], ...]
    statuses: tuple[Status, ...]
    histograms: tuple[_Histogram, ...]
    losses: tuple[SavedLoss, ...]
    in_flight: int
    alerts_decided: bool = True
    limits: tuple[LimitStatus, ...] = ()


class HostTotals:
    """What one process knows of the host's totals; made by `host_totals`, one for each engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = weakref.ref(engine)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._last: Totals | None = None
        self._saved: Saved | None = None
        self._marks: Marks | None = None
        self._book = Book()
        self._book_of = b""  # the ring whose slices it holds
        self._told_ns = 0  # ring time up to which the ring itself was told: no older commit may follow

    def fresh(self) -> Totals | None:
        """The last reading, if it is less than a second old. Reads nothing."""
        last, engine = self._last, self._running()
        return last if last is not None and engine.clock.ring_ns() - last.read_ns < FRESH_NS else None

    def read(self) -> Totals:
        """The totals, at most a second old, or a little more while another thread reads. Waits for the disk.

        Raises:
            StateError: there is a new commit that cannot be read, and none is known here.
            OtelsloError: the engine cannot be started.
        """
        if self._pid != os.getpid():  # another thread may have held the lock when this process was forked
            self._pid, self._lock = os.getpid(), threading.Lock()
        if not self._lock.acquire(blocking=self._last is None):
            assert self._last is not None
            return self._last
        try:
            found = self.fresh()
            if found is None:
                found = self._last = self._read(self._running().start())
            return found
        finally:
            self._lock.release()

    def _running(self) -> Engine:
        engine = self._engine()
        assert engine is not None, "whoever reads holds the engine"
        return engine

    def _read(self, engine: Engine) -> Totals:
        reader, history = _host_ring(engine)
        now_ns = engine.clock.ring_ns()
        saved = self._commit_of(reader, history, now_ns)
        if saved is None:
            self._told_ns = now_ns = engine.clock.ring_ns()
            rows: Rows = reader
            histograms: list[_Histogram] = [
                (reader.histogram_key(h), reader.histogram(h)) for h in range(reader.histograms)
            ]
        else:
            rows = CommittedRows(saved, reader)
            histograms = _histograms_of(saved)
        definitions, at_ns = tuple(engine.definitions), now_ns if saved is None else saved.at_ns
        marked = self._marked(engine, history, definitions)
        found = statuses(definitions, rows, at_ns, marked=marked, book=self._book_for(reader))
        return Totals(
            at_ns=at_ns,
            read_ns=now_ns,
            committed=saved is not None,
            definitions=definitions,
            rows=rows,
            new_rows=tuple((reader.row_name(r), reader.row_birth_ns(r)) for r in range(rows.rows, reader.rows)),
            statuses=tuple(found if history is None else with_known(definitions, found, history.labels, rows, marked)),
            histograms=tuple(histograms),
            losses=() if saved is None or history is None else _losses(history),
            in_flight=reader.in_flight(),
            alerts_decided=self._marks is not None and self._marks.known,
            limits=tuple(engine.observing.statuses()) if engine.limits else (),
        )

    def _marked(self, engine: Engine, history: History | None, definitions: Iterable[Definition]) -> Marked:
        """What the leader decides by as well: read from the same database, at most once a second."""
        if history is None:
            return Marked()
        if self._marks is None:
            self._marks = Marks(history.path, engine.clock.ring_ns, FRESH_NS)
        longest_ns = max((definition.window_ns for definition in definitions), default=0)
        return self._marks(engine.clock.wall_ns() - longest_ns)

    def _book_for(self, reader: Reader) -> Book:
        """Slices counted before, of this ring."""
        if self._book_of != reader.header.ring_id:
            self._book, self._book_of = Book(), reader.header.ring_id
        return self._book

    def _commit_of(self, reader: Reader, history: History | None, now_ns: int) -> Saved | None:
        """The last commit of this ring; None where the ring itself is to be told.

        Every worker decides by the same facts, so that one does not tell the ring while another tells a commit.
        """
        ring_id, found = reader.header.ring_id.hex(), None
        if history is not None:
            try:
                found = history.load()
            except StateError:  # locked, damaged or gone
                found = None
        for saved in (found, self._saved if now_ns - reader.committed_ns < _LOST_NS else None):
            if saved is not None and saved.ring_id == ring_id and saved.at_ns >= self._told_ns:
                self._saved = saved
                return saved
        if reader.committed_ns and now_ns - reader.committed_ns < _LOST_NS and reader.committed_ns > self._told_ns:
            raise StateError("the last commit cannot be read just now. Try again")
        return None


_known: weakref.WeakKeyDictionary[Engine, HostTotals] = weakref.WeakKeyDictionary()


def host_totals(engine: Engine) -> HostTotals:
    """The one `HostTotals` of this engine."""
    return _known.setdefault(engine, HostTotals(engine))


def _host_ring(engine: Engine) -> tuple[Reader, History | None]:
    """The ring whose totals are the host's, and its history: those at the path, where somebody has replaced the file
    under this worker."""
    ring = engine.ring
    if ring.path is None:
        return ring.reader, None
    history = History(Path(ring.path).with_name(state.DATABASE_FILE))
    if ring.file_is() == "another":
        try:
            return open_reader(ring.path), history
        except (OtelsloError, OSError, ValueError):
            pass
    return ring.reader, history


def _histograms_of(saved: Saved) -> list[_Histogram]:
    words = memoryview(saved.buckets).cast("q")
    return [(key, words[BUCKET_WORDS * n : BUCKET_WORDS * (n + 1)]) for n, key in enumerate(saved.histogram_keys)]


def _losses(history: History) -> tuple[SavedLoss, ...]:
    try:
        return tuple(history.losses(_MOST_LOSSES))
    except StateError:
        return ()
