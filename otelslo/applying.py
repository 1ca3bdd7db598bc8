"""Emptying the inbox: what lies in it is counted by whoever leads, or by a command where nobody does.

In transactions of a few hundred records, each of which moves the offset in the file on: a record is counted once, also
by two at a time, and whoever is killed in between. Between them, and within, the app's threads may go on; so that these
do not make a transaction last while others wait for the database, it ends early where they are busy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from otelslo.errors import StateError
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_labels import LabelBook
from otelslo.exporters.sqlite_schema import Identity, file_identity
from otelslo.inbox import FAULT, finished, read_spool, spools, sweep
from otelslo.label_record import LONGEST_RECORD, Cut, Record, decoded
from otelslo.labelling import GRACE_NS, Batch, Labelling
from otelslo.slo import SLO
from otelslo.window import DAY_NS, HOUR_NS

MOST_KEPT = 1_000_000  # predictions; the oldest are given up first
MOST_WAITING = 100_000  # labels whose prediction has not come
CHUNK = 500  # records, and what has fallen due, of one transaction
MOST_A_TURN = 20_000
_TURN_NS = 1_000_000_000
_LAST_NS = 100_000_000  # of a turn that the end of the process waits for
_WORK_NS = 250_000_000  # of each sort of what falls due, so that none waits for another or for the inbox
_HOLD_NS = 75_000_000  # of one transaction; others wait 2 s for the database
_FIRST = 50  # entries of the first transaction of what falls due, before it is known how long they take
_BREATH = 20  # records; about a millisecond with three objectives
_BYTES = 4 * (LONGEST_RECORD + 64)

Between = Callable[[], None]
_Work = Callable[[Batch, LabelBook], int]


class Applying:
    """What one process does with the inbox of a state directory.

    Args:
        fault: counts a fault (reason, detail); never raises.
        key: of samples, where they shall be the same on other hosts; by default a secret of the database's own.
    """

    def __init__(
        self,
        state_dir: Path,
        store: Store,
        fault: Callable[[str, str], None],
        retention_ns: Callable[[], int],
        key: str | None = None,
        *,
        most_kept: int = MOST_KEPT,
        chunk: int = CHUNK,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._state_dir = state_dir
        self._store = store
        self._fault = fault
        self._retention_ns = retention_ns
        self._key = key
        self._most_kept = most_kept
        self._chunk = chunk
        self._at_once = min(chunk, _FIRST)
        self._monotonic_ns = monotonic_ns
        self._slos: Sequence[SLO] | None = None
        self._rules: Labelling | None = None
        self._read: dict[str, int] = {}
        self._careful: dict[str, int] = {}  # files with a record that raised, and how many more go one by one
        self._database: Identity = None
        self._expired_hour = -1
        self._now_ns = 0
        self._between: Between = _nothing

    def turn(self, slos: Sequence[SLO], now_wall_ns: int, between: Between | None = None, *, last: bool = False) -> int:
        """Count what lies in the inbox, and settle what has fallen due, at `now_wall_ns` (Unix ns); how many records
        were taken. What is left after a second, or after MOST_A_TURN records, is for the next turn. The `last` one,
        when a process ends, is short and settles nothing.

        Raises:
            StateError: the database cannot be written now.
        """
        rules = self._rules_of(slos)
        self._now_ns, self._between = now_wall_ns, between or _nothing
        which = file_identity(self._store.path)
        if which != self._database:  # it was lost or replaced: what the inbox still has is not counted in this one
            self._database = which
            self._read.clear()
        files = spools(self._state_dir)
        if not files and not rules.slos:
            return 0
        until_ns = self._monotonic_ns() + (_LAST_NS if last else _TURN_NS)
        taken, is_behind = 0, False
        for path in files:
            while not (is_behind := taken >= MOST_A_TURN or self._monotonic_ns() >= until_ns):
                took = self._take_some(path, rules)
                if took is None:
                    break
                taken += took
                self._between()
            if is_behind:
                break
        if not last:
            self._settle(rules, is_behind)
        return taken

    # ── records ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _take_some(self, path: Path, rules: Labelling) -> int | None:
        """One transaction's worth of a file; None if there is no more in it for now."""
        try:
            size = path.stat().st_size
            if self._read.get(path.name) == size:
                if not finished(path) or path.stat().st_size != size:  # asked in this order, so nothing more comes
                    return None
                self._remove(path)
                return None
            return self._take_from(path, rules, finished(path))
        except FileNotFoundError:
            return None
        except OSError as e:
            self._fault(FAULT, f"{path.name} of the inbox cannot be read: {e.strerror}")
            return None

    def _take_from(self, path: Path, rules: Labelling, ended: bool) -> int | None:
        if path.name not in self._careful:
            try:
                return self._take_chunk(path, rules, ended, self._chunk)
            except (StateError, OSError):
                raise
            except Exception as e:  # of one record, which must not hold up the others
                self._fault("internal", f"a record of the inbox cannot be counted: {type(e).__name__}: {e}")
                self._careful[path.name] = self._chunk
        self._careful[path.name] -= 1
        if not self._careful[path.name]:
            del self._careful[path.name]
        try:
            return self._take_chunk(path, rules, ended, 1)
        except (StateError, OSError):
            raise
        except Exception:
            return self._take_chunk(path, None, ended, 1)

    def _take_chunk(self, path: Path, rules: Labelling | None, ended: bool, most: int) -> int | None:
        """One transaction; without `rules` the record is left out, and counted as cut."""
        with self._writing() as book:
            offset = book.offset(path.name)
            data = read_spool(path, offset, _BYTES)
            if data is None:  # counted and removed by another
                return None
            found = islice(decoded(data, ended=ended and len(data) < _BYTES), most)
            taken, used = self._take_records(found, rules, book)
            if used:
                book.advance(path.name, offset + used)
        self._read[path.name] = offset + used
        return taken if used else None

    def _take_records(
        self, found: Iterable[tuple[Record | Cut, int]], rules: Labelling | None, book: LabelBook
    ) -> tuple[int, int]:
        """As many as there is time for, one at least: how many, and where the last one ends."""
        batch = None if rules is None else Batch(rules, book, self._now_ns)
        taken, used, until_ns = 0, 0, self._monotonic_ns() + _HOLD_NS
        for record, ends_at in found:
            used = ends_at
            if batch is None or isinstance(record, Cut):
                book.count("", "cut")
            else:
                batch.take(record)
                taken += 1
                if taken % _BREATH == 0:
                    self._between()
            if self._monotonic_ns() >= until_ns:
                break
        return taken, used

    def _remove(self, path: Path) -> None:
        """A file that is counted to its end and that nobody writes to. Its offset is forgotten only when it is gone,
        in a transaction: whoever comes upon it in between finds either."""
        path.unlink(missing_ok=True)
        self._read.pop(path.name, None)
        with self._writing() as book:
            book.forget_files(lambda name: not (path.parent / name).exists())

    # ── what falls due ─────────────────────────────────────────────────────────────────────────────────────────────
    def _settle(self, rules: Labelling, is_behind: bool) -> None:
        now_ns = self._now_ns
        # A day is over when the next one begins; its sample when all that belongs to it can have come, and been read.
        days_ns, draws_ns = now_ns // DAY_NS * DAY_NS, (now_ns - GRACE_NS) // DAY_NS * DAY_NS
        draws_ns = 0 if is_behind else draws_ns
        keep_ns = now_ns - rules.keep_ns
        rows = rules.in_force(self._store.labels.rows())
        if self._store.labels.is_due(rows, now_ns, days_ns, draws_ns, keep_ns, self._most_kept):
            # In this order: what has lapsed is settled before it is forgotten.
            works: tuple[_Work, ...] = (
                lambda batch, book: batch.lapse(book.lapsed(batch.in_force, self._at_once)),
                lambda batch, book: batch.enter_drawn(book.drawn(batch.in_force, draws_ns, self._at_once)),
                lambda batch, book: batch.close_days(book.days(batch.in_force, days_ns, self._at_once)),
                self._forget,
            )
            for work in works:
                until_ns = self._monotonic_ns() + _WORK_NS
                while self._some(rules, work) and self._monotonic_ns() < until_ns:
                    pass
        self._expire()

    def _some(self, rules: Labelling, work: _Work) -> int:
        """One transaction's worth of what has fallen due: half as many as in the one before if that was too long."""
        begun_ns = self._monotonic_ns()
        with self._writing() as book:
            done = work(Batch(rules, book, self._now_ns), book)
        was_long = self._monotonic_ns() - begun_ns > _HOLD_NS
        self._at_once = max(1, self._at_once // 2) if was_long else min(self._chunk, 2 * self._at_once)
        self._between()
        return done

    def _forget(self, batch: Batch, book: LabelBook) -> int:
        """Labels that nobody needs any more, and predictions that are too old or too many."""
        unknown = book.unknown(MOST_WAITING, self._at_once)
        for model in unknown:
            book.count(model, "unknown")
        gone = book.older_than(self._now_ns - batch.keep_ns, self._most_kept, self._at_once)
        for kept, is_old in gone:
            batch.give_up(kept, "expired" if is_old else "dropped")
        book.remove(kept for kept, _ in gone)
        return len(unknown) + len(gone)

    def _expire(self) -> None:
        hour = self._now_ns // HOUR_NS
        if hour == self._expired_hour:
            return
        sweep(self._state_dir, self._now_ns / 1e9)
        with self._writing() as book:
            book.expire(self._now_ns - self._retention_ns() - DAY_NS)
        self._expired_hour = hour

    def purge(self, slos: Sequence[SLO], model: str, now_wall_ns: int) -> int:
        """Delete all that is kept of a model's predictions, texts above all; counts stay. How many there were.

        Raises:
            StateError: the database cannot be written now.
        """
        rules, self._now_ns, purged = self._rules_of(slos), now_wall_ns, 0
        while True:
            with self._writing() as book:
                some, batch = book.all_of(model, self._chunk), Batch(rules, book, now_wall_ns)
                for kept in some:
                    batch.give_up(kept, "purged")
                book.remove(some)
            purged += len(some)
            if not some:
                return purged

    # ── ────────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _rules_of(self, slos: Sequence[SLO]) -> Labelling:
        if self._rules is None or slos is not self._slos:
            self._slos, self._rules = slos, Labelling(slos, self._fault, self._retention_ns(), self._key)
        return self._rules

    @contextlib.contextmanager
    def _writing(self) -> Iterator[LabelBook]:
        try:
            with self._store.writing(self._now_ns) as connection:
                book = LabelBook(connection, self._now_ns)
                yield book
                book.close()
        except StateError:
            self._read.clear()  # the file may be another one by now
            raise


def _nothing() -> None:
    time.sleep(0)
