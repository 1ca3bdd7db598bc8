"""Whether a worker that died was killed by the system's OOM killer, as far as its control group tells.

The kernel says how many of a group it has killed, not which. The count rises just before the killed one is gone, so
every worker looks each second, whoever settles the dead remembers a rise for a while, and each rise explains one death.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from otelslo.cgroup import OomKills

HELD_NS = 10_000_000_000


class OomWatch:
    """The kills in this process's control group that no death has been explained by yet.

    Args:
        kills: how many there have been so far; None where that is not known.
    """

    def __init__(self, kills: Callable[[], int | None] | None = None) -> None:
        self._kills = OomKills() if kills is None else kills
        self._before = self._kills()
        self._held: deque[int] = deque(maxlen=1000)

    def look(self, now_ns: int) -> int:
        """Remember what has been killed since the last look (ring time); how many."""
        now, before = self._kills(), self._before
        self._before = now
        new = 0 if now is None or before is None else max(0, now - before)  # fewer: moved to another group
        self._held.extend([now_ns] * new)
        while self._held and now_ns - self._held[0] > HELD_NS:
            self._held.popleft()
        return new

    def explains(self) -> bool:
        """Whether a death that was found now follows such a kill; each kill is taken once, the oldest first."""
        if not self._held:
            return False
        self._held.popleft()
        return True
