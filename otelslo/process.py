"""What this process uses of the machine: memory and processor time, in whole numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction

from otelslo import cgroup


class Cpu:
    """The share of one core that all threads of this process used since the last call; above 1 where they used more."""

    def __init__(
        self, used_ns: Callable[[], int] = time.process_time_ns, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._used_ns, self._now_ns = used_ns, now_ns
        self._before: tuple[int, int] | None = None

    def __call__(self) -> Fraction | None:
        """None at first, and where no time has passed."""
        before, now = self._before, (self._used_ns(), self._now_ns())
        self._before = now
        if before is None or now[1] <= before[1]:
            return None
        return Fraction(max(0, now[0] - before[0]), now[1] - before[1])


class Memory:
    """Resident memory of the process that made this, and what there is of it: the smallest limit of its control groups,
    else the machine's.

    Raises:
        ImportError: psutil is not installed.
    """

    def __init__(self) -> None:
        import psutil  # an extra

        self._process = psutil.Process()
        total: int = psutil.virtual_memory().total
        self.limit = min(cgroup.memory_limit() or total, total)

    def __call__(self) -> int:
        """Bytes."""
        return int(self._process.memory_info().rss)
