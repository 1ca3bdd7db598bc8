"""Who is alive: one `flock` a block, one for making things, one for the leader.

A lock belongs to the open file, so it is right across pid namespaces, stops and forks: it goes when its holder dies.
Descriptors are close-on-exec, and a forked child closes what it inherited, or it would keep its dead parent's locks.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from pathlib import Path
from types import TracebackType

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An exclusive lock on a small file that is never deleted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    @property
    def held(self) -> bool:
        return self._fd >= 0

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; False if someone else has it and `wait` is False.

        Raises:
            OSError: the file cannot be opened.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as e:
            os.close(fd)
            if isinstance(e, BlockingIOError):
                return False
            raise
        self._fd = fd
        _held.add(self)
        return True

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _held.discard(self)
            os.close(fd)

    def _drop_in_child(self) -> None:
        # Closing is enough: the parent's descriptor keeps the lock.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class MakingLock:
    """Held while rows, tracks or extents are made: among processes by a file, among threads by a mutex."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._threads = threading.RLock()
        self._file: FileLock | None = None
        self._depth = 0
        _making.add(self)

    def __enter__(self) -> MakingLock:
        self._threads.acquire()
        self._depth += 1
        if self._depth == 1 and self._path is not None:
            try:
                self._file = FileLock(self._path)
                self._file.acquire(wait=True)
            except BaseException:
                self._depth -= 1
                self._threads.release()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            self._file.release()
            self._file = None
        self._threads.release()

    def _renew_in_child(self) -> None:
        self._threads = threading.RLock()
        self._file = None
        self._depth = 0


_making: weakref.WeakSet[MakingLock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_held):
        lock._drop_in_child()
    _held.clear()
    for making in list(_making):
        making._renew_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
