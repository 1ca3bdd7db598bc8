"""Whether anybody holds a lock file, found out without locking it: a worker that looks for a free block meanwhile must
not be turned away, nor anybody take the one who asks for a living worker.

Whoever holds a lock has its file open for writing, and the kernel grants a read lease only where nobody has: across
pid namespaces too. A lease that is granted is given back at once; an opener in between waits for that, and no longer.
Where there are no leases (another user's file, some file systems, macOS) /proc/locks knows the holders of this pid
namespace, and otherwise nobody can tell.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path


def is_held(path: Path) -> bool | None:
    """True or False; None where it cannot be told. A file that is not there is held by nobody."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        held = _open_for_writing(fd)
        return _listed(fd) or None if held is None else held
    finally:
        os.close(fd)


def _open_for_writing(fd: int) -> bool | None:
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        fcntl.fcntl(
            fd, fcntl.F_SETSIG, signal.SIGURG
        )  # what tells of an opener: by default SIGIO, which ends a process
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as e:
        return True if e.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _listed(fd: int) -> bool:
    """Whether /proc/locks lists a flock on this file."""
    found = os.fstat(fd)
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks") as file:
            return any("FLOCK" in line and name in line.split() for line in file)
    except OSError:
        return False
