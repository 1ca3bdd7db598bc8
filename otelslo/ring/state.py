"""The state directory: one folder of the user's, readable by nobody else, that holds the ring and the database."""

from __future__ import annotations

import os
import time
from pathlib import Path

from otelslo.errors import StateError
from otelslo.ring.memory import unsafe_file_system

RING_FILE = "live.ring"  # of layout 1; a new layout takes a new name, so that both can live during an upgrade
DATABASE_FILE = "otelslo.db"
LOCKS = "locks"
LEADER_LOCK, AGENT_LOCK = "leader", "agent"
DEFINITIONS_FILE = "definitions.json"  # for readers without the configuration
DIRECTORY = ".otelslo"  # in the working directory, where nothing else is said


def prepare(directory: Path) -> None:
    """Make the directory and its lock folder if need be; one that exists is left as it is.

    Raises:
        StateError: it cannot be made or written, others can write it, or it lies on a file system without locks.
    """
    try:
        made = _made(directory)
        found = directory.stat()
        remedy = f"Name a folder below it, such as {directory / 'otelslo'}, which is then made for this user alone"
        if found.st_uid != os.geteuid():
            problem = f"{directory} belongs to user {found.st_uid}, this process runs as {os.geteuid()}"
            raise StateError(f"{problem}. {remedy}")
        if not made and found.st_mode & 0o022:
            raise StateError(f"{directory} can be written by others. {remedy}")
        locks = directory / LOCKS
        locks.mkdir(mode=0o700, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK) or not os.access(locks, os.W_OK | os.X_OK):
            raise StateError(f"{directory} cannot be written")
        if made:
            (directory / ".gitignore").write_text("*\n")
    except OSError as e:
        raise StateError(f"{directory} cannot be used: {e.strerror}") from e
    name = unsafe_file_system(directory)
    if name is not None:
        raise StateError(f"{directory} lies on {name}, where mappings and locks are not shared; choose a local disk")


def write_definitions(directory: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old one or the new. Raises OSError."""
    path = directory / DEFINITIONS_FILE
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def _made(directory: Path) -> bool:
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def set_aside(path: Path, why: str) -> Path:
    """Rename a file out of the way, never over another one; where it went."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 0
    while True:
        target = path.with_name(f"{path.name}.{why}-{stamp}" + (f"-{number}" if number else ""))
        if not target.exists():
            os.rename(path, target)
            return target
        number += 1
