"""Cold starts: which calls of a site met a model that was not loaded yet, at no cost to any call after them.

Cold are the calls that begin before the first one has returned, in this process or since `otelslo.loaded`: they all may
have waited for the same load.
"""

from __future__ import annotations

from collections.abc import Callable

from otelslo.words import Words


class ColdEnd:
    """Stands where calls find the kernel's `end` while their site is cold; `end` is that one, `load` numbers the load.

    Called as the kernel is, it ends a call that has returned without a word, by what `plan_of(words, token, cold=self)`
    says; `fault` counts a fault of ours.
    """

    __slots__ = ("_fault", "_plan_of", "end", "load")

    def __init__(
        self, plan_of: Callable[..., int], fault: Callable[[str, str], None], end: Callable[..., int], load: int
    ) -> None:
        self._plan_of = plan_of
        self._fault = fault
        self.end = end
        self.load = load

    def __call__(self, page: int, index: int, token: int, plan: int) -> int:
        """`plan` is a warm call's, used if there can be no other."""
        try:
            plan = self._plan_of(Words(), token, cold=self)
        except Exception as e:
            self._fault("internal", f"a cold start was counted as any call: {type(e).__name__}: {e}")
        return self.end(page, index, token, plan)
