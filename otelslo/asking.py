"""Asking for the values of limits: the leader calls what they name, each in a thread of its own, so that one that
hangs holds up neither the leader nor another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from otelslo.limit import Limit

Tell = Callable[[str, Any, Any], None]  # the limit's name, its value, since when it grows


class Asking:
    """What one leader asks for.

    Args:
        tell: writes an observation down; raises for what is none.
        fault: counts a fault (reason, detail).
    """

    def __init__(self, tell: Tell, fault: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._fault = fault
        self._questions: dict[Limit, _Question] = {}

    def tend(self, limits: Iterable[Limit], now_ns: int) -> None:
        """Ask for those whose time has come (ring time). Waits for none of them."""
        asked = [limit for limit in limits if limit.ask is not None]
        self._questions = {limit: self._questions.get(limit) or _Question(limit) for limit in asked}
        for question in self._questions.values():
            question.tend(now_ns, self._tell, self._fault)

    def join(self, timeout_s: float) -> bool:
        """Wait for the answers that are under way; whether all came in time."""
        threads = [question.thread for question in self._questions.values() if question.thread is not None]
        for thread in threads:
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in threads)


class _Question:
    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._next_ns: int | None = None
        self.thread: threading.Thread | None = None
        self._said = False

    def tend(self, now_ns: int, tell: Tell, fault: Callable[[str, str], None]) -> None:
        if self._next_ns is not None and now_ns < self._next_ns:
            return
        self._next_ns = now_ns + self._limit.every_ns
        if self.thread is not None and self.thread.is_alive():
            if not self._said:
                self._said = True
                fault("user_code", f"limit {self._limit.name!r}: its value is still awaited, and not asked for again")
            return
        self._said = False
        self.thread = threading.Thread(
            target=self._ask, args=(tell, fault), name=f"otelslo-{self._limit.name}", daemon=True
        )
        self.thread.start()

    def _ask(self, tell: Tell, fault: Callable[[str, str], None]) -> None:
        try:
            assert self._limit.ask is not None
            value = self._limit.ask()
            if isinstance(value, datetime):
                tell(self._limit.name, None, value)
            elif value is not None:
                tell(self._limit.name, value, None)
        except (Exception, SystemExit) as e:
            fault("user_code", f"limit {self._limit.name!r}: its value cannot be had: {type(e).__name__}: {e}")
