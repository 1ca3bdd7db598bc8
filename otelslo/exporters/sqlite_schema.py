"""The database file itself: how it is made, opened, judged, and set aside when it cannot be trusted.

What makes these choices (see `sqlite` for what is written into it):
- Rollback journal (TRUNCATE) with synchronous=FULL: several writers are safe in it and a returned commit survives a
  power cut. WAL is avoided because SQLite before 3.51.3 can corrupt when a second process checkpoints; so there is no
  version gate here, any SQLite from 3.35 on will do.
- A new file gets its tables under a temporary name and is then linked into place: an empty or half-made file under the
  final name is always damage, never a start that was interrupted.
- A damaged file is renamed together with its journal, which alone could turn the next file into nonsense, and never
  deleted. A file of a newer version is refused and left alone.
- The file is never opened by anything but SQLite: closing any other descriptor of it would drop SQLite's locks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.errors import StateError

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA_VERSION = 3
BUSY_TIMEOUT_S = 2.0
# A full check reads the whole file (about 0.3 s for this size), so larger ones get the cheaper kind.
THOROUGH_BYTES = 64 * 1024 * 1024

# A garbled name in one of SQLite's own messages comes out as a decoding error.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)

Identity = tuple[int, int] | None

_SIDECARS = ("-journal", "-wal", "-shm")
_DAMAGE_CODES = {
    sqlite3.SQLITE_ERROR,  # after a successful open: a table or column that is not there
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
}
_TABLES = {
    "meta": "(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "rings": "(ring INTEGER PRIMARY KEY, ring_id TEXT NOT NULL UNIQUE)",
    "ring_rows": "(ring INTEGER, row INTEGER, key TEXT, birth_ns INTEGER, PRIMARY KEY (ring, row)) WITHOUT ROWID",
    "histograms": "(ring INTEGER, number INTEGER, key TEXT, PRIMARY KEY (ring, number)) WITHOUT ROWID",
    "latest": "(ring INTEGER PRIMARY KEY, committed INTEGER, seq INTEGER, at_ns INTEGER, wall_offset_ns INTEGER,"
    " closed_ns INTEGER, cells BLOB, buckets BLOB, checksum BLOB)",
    "slots": "(ring INTEGER, row INTEGER, slot_start_ns INTEGER, good INTEGER, bad INTEGER, excluded INTEGER,"
    " PRIMARY KEY (ring, row, slot_start_ns)) WITHOUT ROWID",
    "losses": "(id INTEGER PRIMARY KEY, ring INTEGER, at_ns INTEGER, digest BLOB, wall_ns INTEGER, row INTEGER,"
    " reason TEXT, count INTEGER, route TEXT, status INTEGER, exception TEXT, version TEXT, latency_ns INTEGER,"
    " trace_id TEXT, worker TEXT, UNIQUE (ring, at_ns, digest))",
    "series": '(series INTEGER PRIMARY KEY, slo TEXT, "group" TEXT, target TEXT, "window" TEXT,'
    ' UNIQUE (slo, "group", target, "window"))',
    "budgets": "(series INTEGER, span_ns INTEGER, wall_ns INTEGER, good INTEGER, bad INTEGER, excluded INTEGER,"
    " PRIMARY KEY (series, span_ns, wall_ns)) WITHOUT ROWID",
    "clock": "(ring INTEGER, at_ns INTEGER, wall_offset_ns INTEGER, PRIMARY KEY (ring, at_ns)) WITHOUT ROWID",
    "configs": "(id INTEGER PRIMARY KEY, ring INTEGER, wall_ns INTEGER, config TEXT)",
    "journal": "(id INTEGER PRIMARY KEY, wall_ns INTEGER, kind TEXT, text TEXT)",
}
_NOTES_TABLES = {
    "exclusions": "(id INTEGER PRIMARY KEY, slo TEXT, start_wall_ns INTEGER, end_wall_ns INTEGER, reason TEXT,"
    " created_wall_ns INTEGER, undone_wall_ns INTEGER)",
    "annotations": "(id INTEGER PRIMARY KEY, kind TEXT, slo TEXT, start_wall_ns INTEGER, end_wall_ns INTEGER,"
    " version TEXT, text TEXT, planned INTEGER, created_wall_ns INTEGER)",
    "alerts": '(slo TEXT, "group" TEXT, name TEXT, data TEXT, PRIMARY KEY (slo, "group", name)) WITHOUT ROWID',
    "outbox": "(id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, channel TEXT, created_wall_ns INTEGER, tries INTEGER,"
    " next_wall_ns INTEGER, error TEXT, payload TEXT, UNIQUE (key, channel))",
    "limits": "(name TEXT PRIMARY KEY, unit TEXT, value_num TEXT, value_den TEXT, since_wall_ns INTEGER,"
    " at_wall_ns INTEGER, state TEXT, state_since_wall_ns INTEGER) WITHOUT ROWID",
}
# What has a time of its own, see `otelslo.dated`.
_DATED_TABLES = {
    "dated_rows": "(row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, birth_wall_ns INTEGER)",
    "dated_slots": "(row INTEGER, slot_wall_ns INTEGER, cell INTEGER, count INTEGER, correction INTEGER,"
    " revision INTEGER, PRIMARY KEY (row, slot_wall_ns, cell)) WITHOUT ROWID",
    "models": "(model TEXT, version TEXT, trained_wall_ns INTEGER, evaluated_wall_ns INTEGER, told_wall_ns INTEGER,"
    " PRIMARY KEY (model, version)) WITHOUT ROWID",
    "evaluations": "(model TEXT, version TEXT, evaluated_wall_ns INTEGER, told_wall_ns INTEGER,"
    " PRIMARY KEY (model, version, evaluated_wall_ns)) WITHOUT ROWID",
    "drift_baselines": "(stream TEXT, source TEXT, feature TEXT, data TEXT, wall_ns INTEGER,"
    " PRIMARY KEY (stream, source, feature)) WITHOUT ROWID",
    "drift_gathered": "(id INTEGER PRIMARY KEY, stream TEXT, source TEXT, rows INTEGER, data TEXT)",
    "drift_open": "(objective TEXT, histogram TEXT, start_wall_ns INTEGER, read_wall_ns INTEGER, totals TEXT,"
    " PRIMARY KEY (objective, histogram)) WITHOUT ROWID",
    "drift_windows": "(objective TEXT, start_wall_ns INTEGER, feature TEXT, slo TEXT, stream TEXT,"
    " end_wall_ns INTEGER, from_wall_ns INTEGER, read_wall_ns INTEGER, state TEXT, data TEXT,"
    " PRIMARY KEY (objective, start_wall_ns, feature)) WITHOUT ROWID",
    # Predictions and labels, see `sqlite_labels`.
    "predictions": "(model TEXT, id TEXT, at_wall_ns INTEGER, output TEXT, score REAL, attributes TEXT, states TEXT,"
    " truth TEXT, truth_key TEXT, told_wall_ns INTEGER, PRIMARY KEY (model, id)) WITHOUT ROWID",
    "label_files": "(name TEXT PRIMARY KEY, offset INTEGER) WITHOUT ROWID",
    "label_rows": "(row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, within_ns INTEGER, otherwise TEXT)",
    "label_waiting": "(number INTEGER PRIMARY KEY, model TEXT, id TEXT, at_wall_ns INTEGER, truth TEXT,"
    " until_wall_ns INTEGER)",
    "label_due": "(model TEXT, id TEXT, row INTEGER, due_wall_ns INTEGER, PRIMARY KEY (model, id, row)) WITHOUT ROWID",
    "label_draws": "(slo TEXT, day_wall_ns INTEGER, position TEXT, model TEXT, id TEXT, row INTEGER,"
    " PRIMARY KEY (slo, day_wall_ns, position, model, id)) WITHOUT ROWID",
    "label_sums": "(row INTEGER, day_wall_ns INTEGER, name TEXT, count INTEGER,"
    " PRIMARY KEY (row, day_wall_ns, name)) WITHOUT ROWID",
    "label_days": "(row INTEGER, day_wall_ns INTEGER, due INTEGER, value REAL,"
    " PRIMARY KEY (row, day_wall_ns)) WITHOUT ROWID",
    "label_slots": "(row INTEGER, slot_wall_ns INTEGER, predicted INTEGER NOT NULL DEFAULT 0,"
    " labelled INTEGER NOT NULL DEFAULT 0, lapsed INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0,"
    " corrected INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (row, slot_wall_ns)) WITHOUT ROWID",
    "label_counters": "(model TEXT, what TEXT, count INTEGER, PRIMARY KEY (model, what)) WITHOUT ROWID",
}
_DATED_INDEXES = {
    "dated_by_revision": "dated_slots (revision)",
    "predictions_by_time": "predictions (at_wall_ns)",
    "waiting_by_id": "label_waiting (model, id)",
    "waiting_by_time": "label_waiting (until_wall_ns)",
    "due_by_time": "label_due (row, due_wall_ns)",
    "draws_by_day": "label_draws (row, day_wall_ns)",
    "draws_by_id": "label_draws (model, id)",
    "days_due": "label_days (due, day_wall_ns)",
}
_INDEXES = {"losses_by_time": "losses (wall_ns)"}


class StoreUnavailable(StateError):
    """The database cannot be used now (locked, disk full, I/O error, no permission); trying again later may work."""


class Damaged(Exception):
    """The content of the file cannot be trusted; the text says what was found. Never leaves this family's modules."""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in `mode` "rw" or "ro"; neither ever creates a file. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def sorted_out(error: Exception, path: Path) -> Damaged | StoreUnavailable:
    """What an error from SQLite means for the file at `path`: its content is bad, or it is not to be had just now."""
    if isinstance(error, OSError):
        return StoreUnavailable(f"{path}: {error.strerror or error}. {_remedy(full=error.errno == errno.ENOSPC)}")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    short_read = code == sqlite3.SQLITE_IOERR_SHORT_READ
    # The header's own version bytes can make a file read-only; then permissions do not explain it.
    false_read_only = code == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if primary in _DAMAGE_CODES or short_read or false_read_only:
        return Damaged(str(error))
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    remedy = _remedy(full=primary == sqlite3.SQLITE_FULL, busy=primary == sqlite3.SQLITE_BUSY)
    return StoreUnavailable(f"{path}: {error} ({name}). {remedy}")


def open_file(
    path: Path, wall_ns: int, notices: list[str], verify: Callable[[sqlite3.Connection], object], check: bool
) -> tuple[sqlite3.Connection, Identity]:
    """A writing connection to a file that has been judged, and which file that is.

    What people should know about how it came to be is added to `notices`, also when this raises. A missing file is
    made; a damaged one is set aside under a name with `wall_ns` (Unix ns) in it and a new one made. `verify` may raise
    Damaged for what only its owner can see; `check` False skips the reading of the whole file. Raises StateError for
    a newer schema and StoreUnavailable for everything that is not the file's content.
    """
    try:
        for _ in range(3):
            if not os.path.lexists(path):
                notices += _create(path, wall_ns)
            identity = file_identity(path)
            try:
                return _open_judged(path, verify, check), identity
            except Damaged as damage:
                notices.append(_set_aside(path, wall_ns, identity, str(damage)))
    except (OSError, *SQLITE_ERRORS) as error:
        raise StoreUnavailable(str(sorted_out(error, path))) from error
    raise StoreUnavailable(f"{path}: every new file turns out damaged. Check the disk. {'; '.join(notices)}")


def file_identity(path: Path) -> Identity:
    """Device and inode of what `path` names now, None if nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_judged(path: Path, verify: Callable[[sqlite3.Connection], object], check: bool) -> sqlite3.Connection:
    if not path.is_file():
        raise StoreUnavailable(f"{path}: not a regular file. Remove it or choose another state directory")
    connection = connect(path, "rw")
    try:
        _durable(connection, path)
        _judge(connection, path, check)
        _migrate(connection)
        _try_writing(connection, path)
        connection.execute("BEGIN")  # one view for all that is compared: others commit meanwhile
        verify(connection)
        connection.execute("COMMIT")
    except (*SQLITE_ERRORS, MemoryError, OverflowError) as error:
        connection.close()
        raise sorted_out(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _durable(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode=TRUNCATE").fetchone()
    if mode != "truncate":
        raise StoreUnavailable(f"{path}: is in journal mode {mode!r} and in use. Close whatever else has it open")
    connection.execute("PRAGMA synchronous=FULL")


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version. Raises StateError for a newer one, Damaged if the two places disagree."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchall():
        raise Damaged("it is empty or has no otelslo tables")
    if connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchall() != [(version,)]:
        raise Damaged("its schema version is garbled")
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path}: written by a newer otelslo (schema {version}, this one knows {SCHEMA_VERSION}). "
            "Upgrade otelslo or choose another state directory; the file is left as it is"
        )
    return int(version)


def _judge(connection: sqlite3.Connection, path: Path, check: bool) -> None:
    version = check_version(connection, path)
    if check:
        thorough = os.stat(path).st_size <= THOROUGH_BYTES
        pragma = "integrity_check(1)" if thorough else "quick_check(1)"
        (verdict,) = connection.execute(f"PRAGMA {pragma}").fetchone()
        if verdict != "ok":
            raise Damaged(verdict.replace("\n", " "))
    if version == SCHEMA_VERSION:
        stored = connection.execute("SELECT value FROM meta WHERE key = 'schema_digest'").fetchall()
        if stored != [(_schema_digest(connection),)]:
            raise Damaged("its table definitions are garbled")


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, in one transaction."""
    if connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.execute("PRAGMA user_version").fetchone() < (SCHEMA_VERSION,):
            _apply_migrations(connection)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            entries = {"schema": SCHEMA_VERSION, "schema_digest": _schema_digest(connection)}
            connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", entries.items())
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _try_writing(connection: sqlite3.Connection, path: Path) -> None:
    """Some damage shows only when something is written. What is no damage (a full disk) must not keep us from reading:
    the first commit will say it."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET value = value WHERE key = 'schema'")
    except SQLITE_ERRORS as error:
        finding = sorted_out(error, path)
        if isinstance(finding, Damaged):
            raise finding from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _apply_migrations(connection: sqlite3.Connection) -> None:
    # Imported here: a process that finds an up-to-date file, or only reads, starts 80 ms sooner without it.
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    migrations = Migrations("otelslo")

    @migrations()  # type: ignore[untyped-decorator, unused-ignore]
    def m001_first(db: Database) -> None:
        for name, columns in _TABLES.items():
            db.execute(f"CREATE TABLE {name} {columns}")
        for name, columns in _INDEXES.items():
            db.execute(f"CREATE INDEX {name} ON {columns}")
        # A new file lacks whatever an earlier one held: the slots must be offered again.
        db.execute("INSERT INTO meta VALUES ('incomplete', 1)")

    @migrations()  # type: ignore[untyped-decorator, unused-ignore]
    def m002_notes(db: Database) -> None:
        for name, columns in _NOTES_TABLES.items():
            db.execute(f"CREATE TABLE {name} {columns}")

    @migrations()  # type: ignore[untyped-decorator, unused-ignore]
    def m003_dated(db: Database) -> None:
        for name, columns in _DATED_TABLES.items():
            db.execute(f"CREATE TABLE {name} {columns}")
        for name, columns in _DATED_INDEXES.items():
            db.execute(f"CREATE INDEX {name} ON {columns}")

    migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))


def _schema_digest(connection: sqlite3.Connection) -> str:
    """Over our own tables only: what others add to the file (views, replication tables) is none of our business."""
    ours = {*_TABLES, *_INDEXES, *_NOTES_TABLES, *_DATED_TABLES, *_DATED_INDEXES}
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    return hashlib.blake2b(json.dumps([row for row in found if row[0] in ours]).encode(), digest_size=16).hexdigest()


def _create(path: Path, wall_ns: int) -> list[str]:
    """Make the file under a temporary name, then link it into place; whoever links first wins."""
    os.makedirs(path.parent, mode=0o700, exist_ok=True)
    made = path.with_name(f"{path.name}.new-{secrets.token_hex(4)}")
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        connection = connect(made, "rw")
        try:
            _durable(connection, made)
            _migrate(connection)
        finally:
            connection.close()
        notices = _set_orphans_aside(path, wall_ns)
        _link(made, path)
    finally:
        for leftover in (made, f"{made}-journal"):
            with contextlib.suppress(OSError):
                os.unlink(leftover)
    _sync_directory(path.parent)
    return notices


def _link(made: Path, path: Path) -> None:
    try:
        os.link(made, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if not os.path.lexists(path):  # no hard links on this filesystem
            os.rename(made, path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_aside(path: Path, wall_ns: int, identity: Identity, found: str) -> str:
    if identity is None or identity != file_identity(path):
        return f"{path}: damaged ({found}), and replaced by someone else meanwhile"
    aside = _free_name(path, wall_ns)
    # Journal first: left behind, it would be played back into the next file.
    for sidecar in _SIDECARS:
        if os.path.lexists(f"{path}{sidecar}"):
            os.rename(f"{path}{sidecar}", f"{aside}{sidecar}")
    os.rename(path, aside)
    return f"{path}: damaged ({found}). Kept as {aside.name}, a new file is begun; it is filled again from the ring"


def _set_orphans_aside(path: Path, wall_ns: int) -> list[str]:
    """A journal whose file is gone belongs to no file that comes after it."""
    orphans = [s for s in _SIDECARS if os.path.lexists(f"{path}{s}") and os.lstat(f"{path}{s}").st_size]
    if not orphans or os.path.lexists(path):
        return []
    aside = _free_name(path, wall_ns)
    for sidecar in orphans:
        os.rename(f"{path}{sidecar}", f"{aside}{sidecar}")
    return [f"{path}: was gone, but had left {', '.join(orphans)}. Kept beside {aside.name}"]


def _free_name(path: Path, wall_ns: int) -> Path:
    stamp = datetime.fromtimestamp(wall_ns // 10**9, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = [f"{path.name}.bad-{stamp}", *(f"{path.name}.bad-{stamp}-{number}" for number in range(1, 1000))]
    for candidate in (path.with_name(name) for name in names):
        if not any(os.path.lexists(f"{candidate}{suffix}") for suffix in ("", *_SIDECARS)):
            return candidate
    raise StoreUnavailable(f"{path}: a thousand damaged files of this second. Check the disk")


def _remedy(full: bool = False, busy: bool = False) -> str:
    if busy:
        return "Another process holds it; try again"
    wanted = "Make room on the disk" if full else "Check the disk and the rights to the directory"
    return f"{wanted}; counting goes on in the ring"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
