"""Reading the history: for the command line, the page and every worker that does not lead.

A reader opens the file read-only for each question, reads in one short transaction and closes again: it never creates,
migrates or holds up a writer, needs no care across forks, and sees a replaced file at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from otelslo.exporters.sqlite_dated import DatedReader
from otelslo.exporters.sqlite_limits import LimitsReader
from otelslo.exporters.sqlite_notes import NotesReader
from otelslo.exporters.sqlite_schema import SQLITE_ERRORS, Damaged, StoreUnavailable, check_version, connect, sorted_out
from otelslo.snapshot import BUCKET_WORDS, WORD_BYTES, BudgetPoint, JournalEntry, Loss, Saved, SavedLoss, SlotClose

FIVE_MINUTES_NS = 300 * 10**9
_PAGE_ROWS = 2_000
_BUCKET_BYTES = BUCKET_WORDS * WORD_BYTES


class Reader:
    """The questions that the history answers. Every method may raise StoreUnavailable, or StateError for a file that
    a newer otelslo has written."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def load(self) -> Saved | None:
        """The last committed snapshot, of whichever ring committed last; None if nothing was ever committed."""
        with self._reading() as connection:
            return read_saved(connection, self._slots_of)

    def losses(self, limit: int = 100, since_wall_ns: int = 0) -> list[SavedLoss]:
        """The newest losses first, none before `since_wall_ns` (Unix ns)."""
        rows = self._fetch(
            "SELECT wall_ns, key, at_ns, losses.row, reason, count, route, status, exception, version, latency_ns,"
            " trace_id, worker FROM losses LEFT JOIN ring_rows USING (ring, row)"
            " WHERE wall_ns >= ? ORDER BY wall_ns DESC, id DESC LIMIT ?",
            (since_wall_ns, limit),
        )
        return [SavedLoss(wall_ns, key, Loss(*loss)) for wall_ns, key, *loss in rows]

    def losses_of(self, row_key: str, since_wall_ns: int) -> list[SavedLoss]:
        """Every loss of one row since `since_wall_ns` (Unix ns) that is still kept, newest first."""
        rows = self._fetch(
            "SELECT wall_ns, at_ns, losses.row, reason, count, route, status, exception, version, latency_ns, trace_id,"
            " worker FROM losses JOIN ring_rows USING (ring, row) WHERE wall_ns >= ? AND key = ? ORDER BY wall_ns DESC",
            (since_wall_ns, row_key),
        )
        return [SavedLoss(wall_ns, row_key, Loss(*loss)) for wall_ns, *loss in rows]

    def budgets(
        self,
        slo: str,
        groups: Sequence[str | None] | None = None,
        since_wall_ns: int = 0,
        span_ns: int = FIVE_MINUTES_NS,
    ) -> list[BudgetPoint]:
        """The SLO's points in order of time, of all its groups or of `groups`. `span_ns` is five minutes or one hour;
        the hourly points reach back further. A target that was changed has points of its own."""
        wanted = None if groups is None else {json.dumps(group) for group in groups}
        rows = self._fetch(
            'SELECT wall_ns, "group", target, "window", good, bad, budgets.excluded FROM series JOIN budgets USING'
            " (series) WHERE slo = ? AND span_ns = ? AND wall_ns >= ? ORDER BY wall_ns, series",
            (slo, span_ns, since_wall_ns),
        )
        return [
            BudgetPoint(wall_ns, span_ns, slo, json.loads(group), json.loads(target), window, *counts)
            for wall_ns, group, target, window, *counts in rows
            if wanted is None or group in wanted
        ]

    def journal(self, limit: int = 100, since_wall_ns: int = 0, kind: str | None = None) -> list[JournalEntry]:
        """The newest entries first, of one `kind` or of all."""
        rows = self._fetch(
            "SELECT wall_ns, kind, text FROM journal WHERE wall_ns >= ? AND (? IS NULL OR kind = ?)"
            " ORDER BY wall_ns DESC, id DESC LIMIT ?",
            (since_wall_ns, kind, kind, limit),
        )
        return [JournalEntry(*row) for row in rows]

    @property
    def notes(self) -> NotesReader:
        """Exclusions, annotations, alert states and notices not yet sent."""
        return NotesReader(self._fetch)

    @property
    def limits(self) -> LimitsReader:
        """What was last observed of each limit."""
        return LimitsReader(self._fetch)

    def dated(self) -> DatedReader:
        """Counts of events with a time of their own; to be kept, since it reads what is new."""
        return DatedReader(self._fetch)

    def _slots_of(self, ring: int, row: int, start_ns: int, end_ns: int) -> Iterator[SlotClose]:
        while True:
            rows = self._fetch(
                "SELECT row, slot_start_ns, good, bad, excluded FROM slots WHERE ring = ? AND row = ?"
                " AND slot_start_ns >= ? AND slot_start_ns < ? ORDER BY slot_start_ns LIMIT ?",
                (ring, row, start_ns, end_ns, _PAGE_ROWS),
            )
            for values in rows:
                yield SlotClose(*values)
            if len(rows) < _PAGE_ROWS:
                return
            start_ns = rows[-1][1] + 1

    def _fetch(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(sql, parameters).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            raise StoreUnavailable(
                f"{self.path}: there is no database. Start the app once, or name its state directory"
            )
        try:
            with contextlib.closing(self._read_only()) as connection:
                connection.execute("BEGIN")
                check_version(connection, self.path)
                yield connection
        except Damaged as damage:
            raise damaged(self.path, damage) from damage
        except SQLITE_ERRORS as error:
            finding = sorted_out(error, self.path)
            raise damaged(self.path, finding) if isinstance(finding, Damaged) else finding from error

    def _read_only(self) -> sqlite3.Connection:
        connection = connect(self.path, "ro")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except SQLITE_ERRORS as error:
            connection.close()
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # A writer was killed in the middle of a commit: its journal is to be played back, which takes a writer.
            with contextlib.closing(connect(self.path, "rw")) as writer:
                writer.execute("SELECT 1 FROM sqlite_master").fetchone()
            return connect(self.path, "ro")
        return connection


def damaged(path: Path, found: Exception) -> StoreUnavailable:
    """What a reader or a commit says of damage: the file is judged and set aside when the leader opens it."""
    return StoreUnavailable(
        f"{path}: damaged ({found}). It is judged, and set aside if need be, when it is next opened"
    )


def read_saved(
    connection: sqlite3.Connection, slots_of: Callable[[int, int, int, int], Iterator[SlotClose]]
) -> Saved | None:
    """`Reader.load` inside a transaction. Raises Damaged if the totals are not what was once written."""
    found = connection.execute(
        "SELECT ring, ring_id, seq, at_ns, wall_offset_ns, closed_ns, cells, buckets, checksum"
        " FROM latest JOIN rings USING (ring) ORDER BY committed DESC LIMIT 1"
    ).fetchone()
    if found is None:
        if connection.execute("SELECT 1 FROM rings UNION SELECT 1 FROM latest UNION SELECT 1 FROM slots").fetchone():
            raise Damaged("its totals are missing")
        return None
    ring, ring_id, seq, at_ns, wall_offset_ns, closed_ns, cells, packed, checksum = found
    names = read_names(connection, ring)
    words = (seq, at_ns, wall_offset_ns, closed_ns)
    try:
        fresh = checksum_of(words, digest_of(ring_id, *names), cells, packed)
    except (TypeError, struct.error):
        fresh = b""
    if fresh != checksum:
        raise Damaged("its totals do not match their checksum")
    row_keys, births_ns, histogram_keys, config = names
    clock = connection.execute("SELECT at_ns, wall_offset_ns FROM clock WHERE ring = ? ORDER BY at_ns", (ring,))
    return Saved(
        ring_id=ring_id,
        at_ns=at_ns,
        wall_offset_ns=wall_offset_ns,
        seq=seq,
        row_keys=row_keys,
        births_ns=births_ns,
        cells=cells,
        histogram_keys=histogram_keys,
        buckets=unpack_buckets(packed),
        config=config,
        closed_ns=closed_ns,
        clock=tuple(clock.fetchall()),
        slots=partial(slots_of, ring),
    )


Names = tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...], str]


def read_names(connection: sqlite3.Connection, ring: int) -> Names:
    """Row keys, births, histogram keys and the newest configuration of one ring."""
    rows = connection.execute("SELECT key, birth_ns FROM ring_rows WHERE ring = ? ORDER BY row", (ring,)).fetchall()
    histograms = connection.execute("SELECT key FROM histograms WHERE ring = ? ORDER BY number", (ring,)).fetchall()
    config = connection.execute(
        "SELECT config FROM configs WHERE ring = ? ORDER BY id DESC LIMIT 1", (ring,)
    ).fetchone()
    return (
        tuple(key for key, _ in rows),
        tuple(birth_ns for _, birth_ns in rows),
        tuple(key for (key,) in histograms),
        config[0] if config else "",
    )


def digest_of(*parts: object) -> bytes:
    """A digest of texts and ints, equal for equal parts."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).digest()


def checksum_of(words: tuple[int, int, int, int | None], names: bytes, cells: bytes, packed: bytes) -> bytes:
    """SQLite has no checksums of its own: without this a flipped bit in the totals would go unseen."""
    seq, at_ns, wall_offset_ns, closed_ns = words
    head = struct.pack("<4q?", seq, at_ns, wall_offset_ns, closed_ns or 0, closed_ns is not None)
    return hashlib.blake2b(b"".join((head, names, cells, packed)), digest_size=16).digest()


def pack_buckets(buckets: bytes) -> bytes:
    """Each histogram without its zeros at both ends: a typical one uses 40 of its 256 words."""
    parts: list[bytes] = []
    for start in range(0, len(buckets), _BUCKET_BYTES):
        tail = buckets[start : start + _BUCKET_BYTES].lstrip(b"\0")
        kept = tail.rstrip(b"\0")
        parts += struct.pack("<HH", _BUCKET_BYTES - len(tail), len(kept)), kept
    return b"".join(parts)


def unpack_buckets(packed: bytes) -> bytes:
    """The reverse of `pack_buckets`."""
    parts: list[bytes] = []
    position = 0
    while position < len(packed):
        lead, length = struct.unpack_from("<HH", packed, position)
        kept = packed[position + 4 : position + 4 + length]
        parts.append((b"\0" * lead + kept).ljust(_BUCKET_BYTES, b"\0"))
        position += 4 + length
    return b"".join(parts)
