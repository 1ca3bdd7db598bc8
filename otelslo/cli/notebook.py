"""The database of a state directory, for commands that write notes into it while workers run.

They never make one: a directory without workers would keep notes that nobody reads, and a file that a command makes
belongs to whoever typed it, so that the workers might not be able to write it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otelslo.errors import StateError
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_notes import Notes
from otelslo.exporters.sqlite_reader import Reader
from otelslo.exporters.sqlite_schema import SQLITE_ERRORS, connect
from otelslo.ring import state as files

NOTES_SCHEMA = 2  # the first version of the database that has notes


class NothingThere(StateError):
    """There is no state directory, or no worker has made its database yet."""


def has_notes(database: Path) -> bool | None:
    """Whether the database is of a version that has exclusions and annotations; None where it cannot be told."""
    if not database.exists():
        return False
    try:
        with contextlib.closing(connect(database, "ro")) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
    except SQLITE_ERRORS:
        return None
    return bool(version >= NOTES_SCHEMA)


def database_of(directory: Path) -> Path:
    """The database of a state directory that has notes.

    Raises:
        NothingThere: there is none.
        StateError: it is of an earlier otelslo.
    """
    if not directory.is_dir():
        raise NothingThere(f"{directory}: there is no such state directory. Name the one of your app: --state-dir")
    database = directory / files.DATABASE_FILE
    if not database.exists():
        raise NothingThere(f"{directory}: there is no {database.name} in it. Start the app once, which makes it")
    if has_notes(database) is False:
        problem = "is of an earlier otelslo, which has no exclusions and annotations"
        raise StateError(f"{database}: {problem}. Restart the app with this version, which brings it up to date")
    return database


@contextmanager
def writing(directory: Path, wall_ns: int) -> Iterator[Notes]:
    """The notes of a state directory, to write at `wall_ns` (Unix ns).

    Raises:
        NothingThere: there is no database.
        StateError: it cannot be read or written now; or, while writing, not any more.
    """
    database = database_of(directory)
    Reader(database).notes.exclusions()  # a damaged one is the leader's to judge, and to set aside
    store = Store(database)
    try:
        store.open(wall_ns)
        yield store.notes
    finally:
        store.close()
