"""Ring time, wall time and durations: the one place that asks the system, and the clock that tests turn by hand.

Ring time is the boot-time clock plus a constant of this boot, in int64 nanoseconds, chosen so that it equalled Unix
time when the ring was made. It never follows a step of the wall clock, so no step moves an event or a window's length.
Durations are monotonic.
"""

from __future__ import annotations

import os
import sys
import time
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
    """16 bytes that change at every boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except (OSError, ValueError):
        return (round(time.time() - time.clock_gettime(_BOOT)) // 60).to_bytes(16, "little")  # the minute of the boot
