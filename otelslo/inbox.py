"""The inbox: where any process of the host leaves predictions and labels for whoever counts them.

Each process appends to a file of its own, by one `os.write` a record, so that no request waits for a lock or for the
database, and a record that was written outlives its process however that ends. The files are bounded, to 64 MiB and
256 KiB more for each process; past that, new records are dropped, and counted as faults.

The writer holds a lock on its file as long as it may write to it. The file appears under its name only once it is
locked, so one that nobody holds is finished: it is removed when all of it has been counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from otelslo.errors import BadValue, StateError
from otelslo.label_record import Record, encoded
from otelslo.ring import state

DIRECTORY = "inbox"
MOST_BYTES = 64 << 20  # of all files of a host together that their writers have done with
MOST_FILES = 1_000  # more than processes write at a time: jobs leave theirs where nobody counts
ROTATE_BYTES = 1 << 18
_SUFFIX, _UNBORN = ".log", ".new"
_RETRY_NS = 1_000_000_000
_UNBORN_FOR_S = 3600
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW

FAULT = "labels"  # what our faults are counted and logged under
Fault = Callable[[str, str], None]


class Inbox:
    """The writing side of one process. Threads share it without waiting for each other; a forked child may use it.

    Args:
        state_dir: made when something is first written.
        fault: counts what was lost and why; never raises.
    """

    def __init__(
        self,
        state_dir: Path,
        fault: Fault,
        *,
        most_bytes: int = MOST_BYTES,
        rotate_bytes: int = ROTATE_BYTES,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._state_dir = state_dir
        self._fault = fault
        self._most_bytes, self._rotate_bytes = most_bytes, rotate_bytes
        self._monotonic_ns = monotonic_ns
        self._spool: _Spool | None = None
        self._pid = os.getpid()
        self._rotating = threading.Lock()
        self._again_ns = 0
        self._why = ""
        _INBOXES.add(self)

    def put(self, record: Record) -> bool:
        """Leave a record; False if it was dropped, which is counted as a fault. Never raises."""
        try:
            data = encoded(record)
            spool = self._spool
            if spool is None or spool.size >= self._rotate_bytes or self._pid != os.getpid():
                spool = self._renewed()
            if spool is None:
                self._fault(FAULT, f"not written to the inbox: {self._why}")
                return False
            return self._write(spool, data)
        except BadValue as refused:
            self._fault(FAULT, f"{record.model}: {refused}")
        except Exception as e:
            self._fault(FAULT, f"not written to the inbox: {type(e).__name__}: {e}")
        return False

    def finish(self) -> str | None:
        """Let go of the file: nothing more comes to it. Its name, None if nothing was written."""
        spool, self._spool = self._spool, None
        return None if spool is None else spool.path.name

    def _write(self, spool: _Spool, data: bytes) -> bool:
        written = os.write(spool.fd, data)
        spool.size += written  # threads may lose an addition here: it only says when to begin a new file
        if written < len(data):  # the disk is full: a reader skips the piece
            self._fault(FAULT, f"only {written} of {len(data)} bytes were written to the inbox. Make room on the disk")
            return False
        return True

    def _renewed(self) -> _Spool | None:
        """A new file in the place of a long one, which goes on to serve whoever comes meanwhile. Nobody waits: of
        threads that have no file yet each may begin one."""
        self._renew_in_child()
        before, now_ns = self._spool, self._monotonic_ns()
        if now_ns < self._again_ns:
            return None if self._why else before
        mine = self._rotating.acquire(blocking=False)
        try:
            if not mine and before is not None:
                return before
            self._why = self._refusal()
            if not self._why:
                self._spool = _Spool(self._state_dir / DIRECTORY)
                return self._spool
        except (OSError, StateError) as e:
            self._why = "" if before is not None else str(e)  # a file that cannot be followed goes on
        finally:
            if mine:
                self._rotating.release()
        self._again_ns = now_ns + _RETRY_NS
        return None if self._why else before

    def _refusal(self) -> str:
        """Why no new file may be begun; "" where one may."""
        directory = self._state_dir / DIRECTORY
        if not directory.is_dir():
            state.prepare(self._state_dir)
            directory.mkdir(mode=0o700, exist_ok=True)
        files, waiting = spools(self._state_dir), 0
        for path in files:
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                waiting += size if size >= self._rotate_bytes else 0  # a shorter one may be counted already, and live
        if waiting < self._most_bytes and len(files) < MOST_FILES:
            return ""
        wait = f"{len(files):,} files with {waiting:,} bytes wait in it already"
        return f"{wait}. Start the app or otelslo agent, which count them"

    def _renew_in_child(self) -> None:
        """The file is the parent's. Closing our descriptor leaves its lock alone, and keeping it would keep that."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._rotating = threading.Lock()
            self._again_ns, self._why = 0, ""
            spool, self._spool = self._spool, None
            if spool is not None:
                spool.close()


class _Spool:
    """One file that this process appends to, locked from before it is seen. Closed when nobody refers to it any more: a
    thread that is about to write must not find its descriptor to be another file's."""

    def __init__(self, directory: Path) -> None:
        self.fd = -1
        self.size = 0
        self.path = directory / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}"
        unborn = self.path.with_suffix(_UNBORN)
        self.fd = os.open(unborn, _FLAGS, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unborn, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(unborn)
            raise

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def spools(state_dir: Path) -> list[Path]:
    """The files of an inbox, the oldest first; none where there is no inbox."""
    try:
        return sorted(path for path in (state_dir / DIRECTORY).iterdir() if path.suffix == _SUFFIX)
    except OSError:
        return []


def backlog(state_dir: Path) -> int:
    """How many bytes the files of an inbox have, counted ones that are still there too."""
    total = 0
    for path in spools(state_dir):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def finished(path: Path) -> bool:
    """Whether nothing more can come to a file: its writer has let go of it, or is dead. Ask before reading its end."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def read_spool(path: Path, offset: int, most: int) -> bytes | None:
    """Up to `most` bytes from an offset; None if the file is gone. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return os.pread(fd, most, offset)
    finally:
        os.close(fd)


def sweep(state_dir: Path, now_s: float) -> None:
    """Remove what writers left that were killed while they began a file. `now_s` is Unix time."""
    with contextlib.suppress(OSError):
        for path in (state_dir / DIRECTORY).glob(f"*{_UNBORN}"):
            if path.stat().st_mtime < now_s - _UNBORN_FOR_S:
                path.unlink()


_INBOXES: weakref.WeakSet[Inbox] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for inbox in list(_INBOXES):
        inbox._renew_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
