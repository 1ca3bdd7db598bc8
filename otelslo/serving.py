"""Budget-aware serving: whether an objective's budget allows more, told within a request in about a microsecond.

A request looks the answer up; the background thread computes it, each second, for what was ever asked, by the budget of
a whole window, as alerts and releases go. Whatever is not known, or not known freshly, is a yes: a service that sheds
load because its SLO library stands still is worse off.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from otelslo.clock import Clock
from otelslo.definition import Definition
from otelslo.errors import nearest, shown
from otelslo.evaluate import Book
from otelslo.explain import together
from otelslo.policy import exact_number
from otelslo.status import Status

log = logging.getLogger("otelslo")

STALE_NS = 5_000_000_000
MOST_QUESTIONS = 10_000
AtLeast = Fraction | float | str
Question = tuple[str, str | None, AtLeast]
_Of = tuple[str, str | None]  # an objective, and a group of it; None: all together


class Serving:
    """Answers of one engine.

    Args:
        definitions: those in force.
        judged: statuses of some of them, now, with a book of what was counted before.
        clock: the engine's; a request reads the monotonic clock, which is cheaper, unless it is turned by hand.
        fault: counts a fault of ours (reason, detail).
        wake: told of a new question: it need not wait for the next tick.
    """

    def __init__(
        self,
        definitions: Callable[[], Sequence[Definition]],
        judged: Callable[[Sequence[Definition], Book], Iterable[Status]],
        clock: Clock,
        fault: Callable[[str, str], None],
        wake: Callable[[], None],
    ) -> None:
        self._definitions = definitions
        self._judged = judged
        self._now_ns = clock.ring_ns if clock.manual else time.monotonic_ns
        self._fault = fault
        self._wake = wake
        self._answers: dict[Question, bool] = {}
        self._bars: dict[Question, Fraction] = {}
        self._book = Book()
        self._fresh_until_ns = 0
        self._said: set[str] = set()
        _SERVING.add(self)

    def allows(self, slo: str, group: str | None, at_least: AtLeast) -> bool:
        """The last answer; yes where there is none, or a no is older than STALE_NS. Never raises."""
        try:
            return self._answers[slo, group, at_least] or self._now_ns() > self._fresh_until_ns
        except KeyError:
            return self._ask((slo, group, at_least))
        except Exception as e:  # what is asked cannot be a key, or a clock failed
            self._fault("user_code", f"budget_allows({shown(slo)}): {type(e).__name__}: {e}")
            return True

    def _ask(self, question: Question) -> bool:
        """Remember a new question; the next refresh answers it."""
        try:
            if len(self._answers) >= MOST_QUESTIONS:
                self._fault("capacity", f"budget_allows is asked more than {MOST_QUESTIONS} different questions")
                return True
            bar = exact_number(question[2])
            if bar is None or not 0 <= bar <= 1:
                problem = f"budget_allows: at_least={shown(question[2])} is no share from 0 to 1, so the answer is yes"
                self._fault("user_code", problem)
            else:
                self._bars[question] = bar
            self._answers[question] = True
            self._wake()
        except Exception as e:
            self._fault("internal", f"budget_allows: {type(e).__name__}: {e}")
        return True

    def refresh(self) -> None:
        """Answer all questions anew, off the request path. Never raises; what fails leaves the answers to grow old."""
        bars = self._bars.copy()
        if not bars:
            return
        try:
            now_ns = self._now_ns()
            definitions = {definition.name: definition for definition in self._definitions()}
            asked = {slo for slo, _, _ in bars}
            found = self._statuses([definition for name, definition in definitions.items() if name in asked], bars)
            for question, bar in bars.items():
                if question[0] not in definitions:
                    self._say_once(question[0], definitions)
                self._answers[question] = _enough(found.get(question[:2]), bar)
            self._fresh_until_ns = now_ns + STALE_NS
        except Exception as e:
            self._book = Book()
            self._fault("internal", f"budget_allows cannot be answered: {type(e).__name__}: {e}")

    def _statuses(self, definitions: Sequence[Definition], asked: Iterable[Question]) -> dict[_Of, Status]:
        """Of each group, and of all groups of an objective together where that is asked for."""
        by_name: dict[str, list[Status]] = {}
        for status in self._judged(definitions, self._book):
            by_name.setdefault(status.slo, []).append(status)
        found: dict[_Of, Status] = {(one.slo, one.group): one for many in by_name.values() for one in many}
        for name in {slo for slo, group, _ in asked if group is None} & by_name.keys():
            found[name, None] = together(by_name[name])
        return found

    def _say_once(self, slo: str, known: Iterable[str]) -> None:
        if slo not in self._said:
            self._said.add(slo)
            log.warning("budget_allows: no SLO is named %s, so the answer is yes. %s", shown(slo), nearest(slo, known))

    def forget(self) -> None:
        """Begin anew: in another ring, or in a forked child, where no background thread is until something is asked."""
        self._book = Book()
        self._answers.clear()


def _enough(status: Status | None, bar: Fraction) -> bool:
    """Whether the share `bar` is left, and anything at all; yes without events."""
    left = None if status is None else status.full_budget
    return left is None or left.remaining_ratio is None or (left.remaining > 0 and left.remaining_ratio >= bar)


_SERVING: weakref.WeakSet[Serving] = weakref.WeakSet()


def _forget_in_child() -> None:
    for serving in list(_SERVING):
        serving.forget()


os.register_at_fork(after_in_child=_forget_in_child)
