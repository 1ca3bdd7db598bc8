"""How late this process's event loops run what is due: a timer in each loop that serves requests, where somebody asks.

A timer is no task: it keeps no loop alive, and one that is closed drops it without a word. The lag is read from another
thread, which also sees a loop that is blocked at that very moment.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

_LONGEST_NS, _SHORTEST_NS = 500_000_000, 10_000_000
_MOST_LAGS = 1000


class Loop(Protocol):
    """What is needed of an event loop."""

    def is_running(self) -> bool: ...
    def call_later(self, delay: float, callback: Any, *args: Any) -> Any: ...
    def call_soon_threadsafe(self, callback: Any, *args: Any) -> Any: ...


class _Beat:
    """One loop's timer. The loop's thread writes, another reads."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._every_ns = 0  # 0: let it end
        self._due_ns: int | None = None
        self._lags: deque[int] = deque(maxlen=_MOST_LAGS)
        self._turn = 0  # of the timer that counts; one that was left behind ends when it comes
        self._runs = False

    def watch(self, loop: Loop, every_ns: int) -> None:
        self._every_ns = every_ns
        if every_ns and not self._runs and loop.is_running():
            self._runs = True
            self._turn += 1
            try:
                loop.call_soon_threadsafe(self._begin, loop, self._turn)
            except RuntimeError:  # closed just now
                self._runs = False

    def _begin(self, loop: Loop, turn: int) -> None:
        every_ns = self._every_ns
        if turn != self._turn:
            return
        if not every_ns:
            self._runs, self._due_ns = False, None
            return
        self._due_ns = self._now_ns() + every_ns
        loop.call_later(every_ns / 1e9, self._beat, loop, turn)

    def _beat(self, loop: Loop, turn: int) -> None:
        if self._due_ns is not None and turn == self._turn:
            self._lags.append(max(0, self._now_ns() - self._due_ns))
        self._begin(loop, turn)

    def take(self, loop: Loop) -> int | None:
        """The largest lag since the last call, what is overdue now among them; None if nothing was measured."""
        if not loop.is_running():
            self._lags.clear()
            self._runs, self._due_ns = False, None  # its timer waits with it, or is gone: if it goes on, begin another
            return None
        found = []
        due_ns = self._due_ns
        if due_ns is not None and (overdue_ns := self._now_ns() - due_ns) > 0:
            found.append(overdue_ns)
        while self._lags:
            found.append(self._lags.popleft())
        return max(found, default=None)


_loops: WeakSet[Any] = WeakSet()


def know(loop: Loop) -> None:
    """This loop serves requests; called in it. Nothing runs in it until somebody watches."""
    _loops.add(loop)


class LoopLag:
    """The lag of all known loops, for one who asks."""

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._beats: WeakKeyDictionary[Any, _Beat] = WeakKeyDictionary()

    def watch(self, shortest_ns: int | None) -> None:
        """Measure lags of that length and more, any that is half as long again for certain; None: none.

        A timer runs every half of it, ten milliseconds to half a second.
        """
        every_ns = 0 if shortest_ns is None else min(_LONGEST_NS, max(_SHORTEST_NS, shortest_ns // 2))
        for loop in list(_loops) if every_ns else list(self._beats):
            self._beats.setdefault(loop, _Beat(self._now_ns)).watch(loop, every_ns)

    def worst_ns(self) -> int | None:
        """The largest lag since the last call; None if none was measured."""
        lags = [beat.take(loop) for loop, beat in list(self._beats.items())]
        return max((lag for lag in lags if lag is not None), default=None)


os.register_at_fork(after_in_child=_loops.clear)  # the loops are the parent's
