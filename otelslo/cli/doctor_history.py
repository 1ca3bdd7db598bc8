"""What `otelslo doctor` says of the history in SQLite: read without writing, and without playing back a journal."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from otelslo.cli import doctor_labels
from otelslo.cli.findings import Finding, note, ok, problem, size
from otelslo.cli.notebook import NOTES_SCHEMA
from otelslo.cli.tables import ago
from otelslo.errors import StateError
from otelslo.exporters.sqlite_reader import read_saved
from otelslo.exporters.sqlite_schema import SCHEMA_VERSION, SQLITE_ERRORS, Damaged, check_version, connect, sorted_out
from otelslo.snapshot import SlotClose

_LATE_NS = 600 * 10**9
_LABELS_SCHEMA = 3
_DAMAGED = "The next leader that opens it sets it aside and fills a new one from the ring"


class Examination:
    """One look at a database file.

    Args:
        deep: whether to read all of it.

    `offsets` is how far each file of the inbox is counted.
    `logged` is how many losses the history has of the ring `ring_id` since `created_ns` (ring time), None if unknown.
    """

    def __init__(self, path: Path, ring_id: str, created_ns: int, now_wall_ns: int, deep: bool) -> None:
        self._path = path
        self._ring = (ring_id, created_ns)
        self._now_wall_ns = now_wall_ns
        self._deep = deep
        self.logged: int | None = None
        self.offsets: dict[str, int] = {}
        self.findings = list(self._look())

    def _look(self) -> Iterator[Finding]:
        if not self._path.exists():
            yield note("history", f"there is no {self._path.name}; the first leader makes it")
            return
        try:
            with contextlib.closing(connect(self._path, "ro")) as connection:
                connection.execute("BEGIN")
                yield from self._read(connection)
        except Damaged as found:
            yield problem("history", f"damaged: {found}", _DAMAGED)
        except StateError as e:
            yield problem("history", str(e), "Use one version of otelslo in one state directory")
        except SQLITE_ERRORS as e:
            yield self._refused(e)

    def _refused(self, error: Exception) -> Finding:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK:
            text = "a writer was killed in the middle of a commit: its journal waits to be played back"
            return note("history", text, "Nothing to do: the next one that opens it does so")
        found = sorted_out(error, self._path)
        if isinstance(found, Damaged):
            return problem("history", f"damaged: {found}", _DAMAGED)
        return problem(
            "history", f"it cannot be read: {error}", "See who holds it, the disk and the rights to the file"
        )

    def _read(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        mode = _pragma(connection, "journal_mode")
        schema = check_version(connection, self._path)
        pages, free, page = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
        unused = f", {size(int(free) * int(page))} of them unused" if int(free) * 4 > int(pages) else ""
        text = f"schema {schema} of {SCHEMA_VERSION}, {size(int(pages) * int(page))}{unused}"
        if mode == "wal":
            remedy = "Close what switched it; the leader switches it back when it is alone"
            yield problem("history", f"{text}, in WAL mode", remedy, journal_mode=mode, schema=schema)
        else:
            yield ok("history", f"{text}, rollback journal", journal_mode=mode, schema=schema)
        yield self._last_commit(connection)
        yield from self._last_errors(connection)
        if schema >= NOTES_SCHEMA:
            yield self._waiting(connection)
        if schema >= _LABELS_SCHEMA:
            self.offsets = dict(connection.execute("SELECT name, offset FROM label_files").fetchall())
            yield from doctor_labels.counted(connection)
        if self._deep:
            yield _examined(connection)

    def _last_commit(self, connection: sqlite3.Connection) -> Finding:
        found = connection.execute(
            "SELECT ring_id, seq, at_ns + wall_offset_ns FROM latest JOIN rings USING (ring)"
            " ORDER BY committed DESC LIMIT 1"
        ).fetchone()
        if found is None:
            return note("history", "nothing was committed yet")
        ring_id, created_ns = self._ring
        (self.logged,) = connection.execute(
            "SELECT count(*) FROM losses JOIN rings USING (ring) WHERE ring_id = ? AND at_ns >= ?",
            (ring_id, created_ns),
        ).fetchone()
        theirs, sequence, wall_ns = found
        facts = {"ring": theirs, "sequence": sequence, "age_s": round((self._now_wall_ns - wall_ns) / 1e9, 3)}
        text = f"last commit {ago(self._now_wall_ns - wall_ns)}, number {sequence}"
        if ring_id and theirs != ring_id:
            remedy = "Restart workers that still count in a ring that was removed; otherwise the next commit mends it"
            return note("history", f"{text}, of another ring: {theirs}", remedy, **facts)
        return ok("history", text, **facts)

    def _last_errors(self, connection: sqlite3.Connection) -> Iterator[Finding]:
        """The newest entry of each kind that tells of trouble."""
        for kind, area in (
            ("export", "exporters"),
            ("store", "history"),
            ("crash", "workers"),
            ("oom", "workers"),
            ("configuration", "configuration"),
        ):
            found = connection.execute(
                "SELECT wall_ns, text FROM journal WHERE kind = ? ORDER BY wall_ns DESC, id DESC LIMIT 1", (kind,)
            ).fetchone()
            if found is not None:
                wall_ns, text = found
                yield note(area, f"journal, {ago(self._now_wall_ns - wall_ns)}: {text}", wall_ns=wall_ns, kind=kind)

    def _waiting(self, connection: sqlite3.Connection) -> Finding:
        """Notices that have not arrived, and since when. Old ones that were tried: nobody was told."""
        rows = connection.execute(
            "SELECT channel, count(*), min(created_wall_ns), max(tries) FROM outbox GROUP BY channel ORDER BY channel"
        ).fetchall()
        if not rows:
            return ok("notices", "none waits to be sent", waiting=0)
        facts = {
            "waiting": sum(count for _, count, _, _ in rows),
            "channels": {name: {"waiting": count, "since_wall_ns": since} for name, count, since, _ in rows},
        }
        parts = []
        for name, count, since_ns, tries in rows:
            tried = f", tried {tries:,} time{'s' * (tries != 1)}" if tries else ""
            parts.append(f"{count:,} for {name}, the oldest made {ago(self._now_wall_ns - since_ns)}{tried}")
        text = f"not yet sent: {'; '.join(parts)}"
        (error,) = connection.execute("SELECT max(error) FROM outbox WHERE tries > 0").fetchone()
        text += f". Last error: {error}" if error else ""
        late = any(tries and self._now_wall_ns - since_ns > _LATE_NS for _, _, since_ns, tries in rows)
        if late:
            return problem("notices", text, "See the receiver; what is not taken for 3 days is given up", **facts)
        return note("notices", text, "Nothing to do while a worker leads: it sends them", **facts)


def _pragma(connection: sqlite3.Connection, name: str) -> str | int:
    found: str | int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return found


def _examined(connection: sqlite3.Connection) -> Finding:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        return problem("history", f"quick_check: {' '.join(str(verdict).split())}", _DAMAGED)
    read_saved(connection, _no_slots)  # raises Damaged
    return ok("history", "quick_check ok, and the last totals match their checksum")


def _no_slots(ring: int, row: int, start_ns: int, end_ns: int) -> Iterator[SlotClose]:
    return iter(())
