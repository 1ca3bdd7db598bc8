"""Ring time, wall time and durations: the one place that asks the system, and the clock that tests turn by hand.

Ring time is the boot-time clock plus a constant of this boot, in int64 nanoseconds, chosen so that it equalled Unix
time when the ring was made. It never follows a step of the wall clock, so no step moves an event or a window's length.
Durations are monotonic.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Protocol

_BOOT = time.CLOCK_BOOTTIME if hasattr(time, "CLOCK_BOOTTIME") else time.CLOCK_MONOTONIC
_SECOND = 1_000_000_000


class Clock(Protocol):
    """What an engine asks: ring time and Unix time, both in ns; `manual` clocks are shown to the kernels."""

    manual: bool

    def ring_ns(self) -> int: ...
    def wall_ns(self) -> int: ...


class SystemClock:
    """The machine's clocks.

    Args:
        epoch_ns: the ring's constant; 0 until the ring is known.
    """

    manual = False

    def __init__(self, epoch_ns: int = 0) -> None:
        self.epoch_ns = epoch_ns

    def ring_ns(self) -> int:
        return host_boot_ns() + self.epoch_ns

    def wall_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """A clock that stands until it is moved; the wall can be stepped apart from ring time."""

    manual = True

    def __init__(self, start_ns: int = 1_700_000_000 * _SECOND) -> None:
        self._ring_ns = start_ns
        self._step_ns = 0
        self.epoch_ns = 0

    def ring_ns(self) -> int:
        return self._ring_ns

    def wall_ns(self) -> int:
        return self._ring_ns + self._step_ns

    def advance(self, *, s: float = 0, ns: int = 0) -> None:
        """Let time pass."""
        self._ring_ns += round(s * _SECOND) + ns

    def step_wall(self, *, s: float) -> None:
        """Step the wall clock, as a wrong time server does."""
        self._step_ns += round(s * _SECOND)


def ring_at(table: Sequence[tuple[int, int]], wall_ns: int) -> int:
    """The ring time that the wall clock called `wall_ns` (Unix ns): the last such moment.

    `table` has (since ring time, wall offset) in order of time. What a clock that was stepped forward never showed is
    the moment of the step.
    """
    until_ns: int | None = None
    for since_ns, offset_ns in reversed(table):
        if wall_ns >= since_ns + offset_ns or since_ns == table[0][0]:
            found = wall_ns - offset_ns
            return found if until_ns is None else min(found, until_ns)
        until_ns = since_ns
    return wall_ns


def host_boot_ns() -> int:
    """The boot-time clock outside any time namespace."""
    pid = os.getpid()
    offset = _offset_of_pid.get(pid)
    if offset is None:  # a forked child may live in another time namespace
        _offset_of_pid.clear()
        offset = _offset_of_pid[pid] = time_namespace_offset_ns()
    return time.clock_gettime_ns(_BOOT) - offset


_offset_of_pid: dict[int, int] = {}


def time_namespace_offset_ns() -> int:
    """What this process's time namespace adds to the boot-time clock; 0 where there are none."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        with open("/proc/self/timens_offsets") as file:
            for line in file:
                name, seconds, nanoseconds = line.split()
                if name in ("boottime", "7"):
                    return int(seconds) * _SECOND + int(nanoseconds)
    except (OSError, ValueError):
        pass
    return 0


def duration_ns() -> int:
    """The monotonic clock that the kernels measure latencies by."""
    if sys.platform == "darwin":
        return time.clock_gettime_ns(time.CLOCK_UPTIME_RAW)
    return time.monotonic_ns()


def boot_id() -> bytes:
    """16 bytes that change at every boot; ask `same_boot` whether two mean the same one."""
    return _linux_boot_id() or _macos_boot_id() or _approximate_boot_id(time.time_ns())


def same_boot(there: bytes) -> bool:
    """Whether an id that `boot_id` once gave is of this boot; of approximate ones 2 minutes apart may be."""
    here = boot_id()
    if is_approximate(here) and is_approximate(there):
        seconds = [int.from_bytes(one[len(_APPROXIMATE) :], "little") for one in (here, there)]
        return abs(seconds[0] - seconds[1]) <= _BOOT_TOLERANCE_S
    return here == there


def is_approximate(boot: bytes) -> bool:
    """Whether a boot id is only the wall time of the boot, for want of a better one, and so moves with the wall."""
    return boot.startswith(_APPROXIMATE)


_APPROXIMATE = b"boot at\0"  # then the second of the boot in Unix time, 8 bytes
_BOOT_TOLERANCE_S = 120


def _approximate_boot_id(wall_ns: int) -> bytes:
    booted_s = max(0, wall_ns - time.clock_gettime_ns(_BOOT)) // _SECOND
    return _APPROXIMATE + booted_s.to_bytes(16 - len(_APPROXIMATE), "little")


def _linux_boot_id() -> bytes | None:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return uuid.UUID(file.read().strip()).bytes
    except (OSError, ValueError):
        return None


def _macos_boot_id() -> bytes | None:
    if not sys.platform.startswith("darwin"):
        return None
    text, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    try:
        failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0)
        return None if failed else uuid.UUID(text.value.decode()).bytes
    except (OSError, AttributeError, ValueError):
        return None
