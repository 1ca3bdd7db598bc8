"""The bytes of a ring: a file mapped whole and grown in place, or private memory where no file can be had.

The address space for the largest possible file is reserved once and never given back: compiled code holds addresses in
it, and a call with a stale one would kill the process. Space is reserved on the disk before it is named anywhere,
because writing into a hole of a full disk is SIGBUS.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import mmap
import os
import sys
import weakref
from pathlib import Path

from otelslo.errors import StateError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_LINUX = sys.platform.startswith("linux")
_NORESERVE = 0x4000 if _LINUX else 0x40
_WIPE_ON_FORK = 18  # Linux 4.14
_POPULATE_WRITE = 23  # Linux 5.14

# File systems on which a shared mapping is not shared, or a lock not held, between hosts or at all.
_UNSAFE = {0x6969: "NFS", 0x517B: "SMB", 0xFF534D42: "CIFS", 0xFE534D42: "SMB2", 0x01021997: "9p", 0x65735546: "FUSE"}


class Memory:
    """A mapping: `base` for the kernels, `words` (int64 view) and `bytes` for Python; offsets are in bytes.

    Args:
        fd: an open ring file, which is this one's from now on, or None for private memory.
        most: bytes of address space to reserve.
    """

    def __init__(self, fd: int | None, most: int) -> None:
        self.fd = fd
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        flags = mmap.MAP_SHARED if fd is not None else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.base = _map(most, protection, flags | _NORESERVE, -1 if fd is None else fd)
        self.bytes = memoryview((ctypes.c_char * most).from_address(self.base)).cast("B")
        self.words = self.bytes.cast("q")
        self._owned = None if fd is None else weakref.finalize(self, os.close, fd)
        if self._owned is not None:
            # At the interpreter's end the app's own exit handlers may still count: a file of theirs that got the number
            # of a closed ring would be grown in its place.
            self._owned.atexit = False

    def close(self) -> None:
        """Close the file, as happens by itself when nobody holds this any more; the mapping stays."""
        if self._owned is not None:
            self._owned()
            self.fd = -1

    def reserve(self, offset: int, size: int) -> None:
        """Have `size` bytes at `offset` of the file, on the disk.

        Raises:
            StateError: no space left, or a file-size limit.
        """
        if self.fd is None:
            return
        try:
            allocate(self.fd, offset, size)
        except OSError as e:
            raise StateError(f"no room for {size} more bytes of live.ring: {e.strerror}") from e

    def populate(self, offset: int, size: int) -> None:
        """Take the page faults of a hot area now instead of in a request; a hint."""
        if _LINUX:
            _libc.madvise(self.base + offset, size, _POPULATE_WRITE)


class PrivatePage:
    """Memory of this process alone, which the system wipes in a forked child: a child is simply not attached."""

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self.address = _map(size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1)
        self.words = memoryview((ctypes.c_char * size).from_address(self.address)).cast("B").cast("q")
        self.wiped_by_system = _LINUX and _libc.madvise(self.address, size, _WIPE_ON_FORK) == 0


def _map(size: int, protection: int, flags: int, fd: int) -> int:
    address = _libc.mmap(None, size, protection, flags, fd, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise StateError(f"cannot map {size} bytes: {os.strerror(code)}")
    return int(address)


def allocate(fd: int, offset: int, size: int) -> None:
    """Reserve file space; where the system has no posix_fallocate (macOS) by writing zeros past the end."""
    if hasattr(os, "posix_fallocate"):
        while True:
            try:
                return os.posix_fallocate(fd, offset, size)
            except OSError as e:
                if e.errno != errno.EINTR:
                    raise
    end = os.fstat(fd).st_size
    if end < offset + size:
        os.pwrite(fd, bytes(offset + size - end), end)


def unsafe_file_system(path: Path) -> str | None:
    """The name of the file system under `path` if a ring must not lie on it."""
    if not _LINUX:
        return None
    buffer = (ctypes.c_long * 32)()
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return None
    return _UNSAFE.get(buffer[0] & 0xFFFFFFFF)
