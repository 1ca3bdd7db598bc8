"""What user code may say of the request or call that it works on, whichever edge counts it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextvars import ContextVar, Token

from otelslo.clock import duration_ns
from otelslo.stream import Pace

# `duration_ns`, for each token; it need not look each time what system this is.
_CLOCK_NS = duration_ns if sys.platform == "darwin" else time.monotonic_ns

_MOST_TOKENS = 1 << 40


class Words:
    """What is said of one event: `otelslo.current().bad("nonsense")`. It counts if it is said before the event ends."""

    # Attributes of the class until something is said: making one is then one allocation.
    spoken = False
    verdict: tuple[str, str] | None = None
    is_shed = False
    attributes: dict[str, str] | None = None
    pace: Pace | None = None
    used: tuple[int | None, int | None] | None = None
    items: object = None
    payload_bytes: object = None
    clock_ns: Callable[[], int] = staticmethod(_CLOCK_NS)  # that the begin was read from

    def good(self) -> None:
        """It was good, whatever its status or exception; a latency objective still compares the latency."""
        self.spoken, self.verdict = True, ("good", "good")

    def bad(self, reason: str) -> None:
        """It was bad, whatever its status."""
        self.spoken, self.verdict = True, ("bad", str(reason))

    def exclude(self, reason: str) -> None:
        """It does not count."""
        self.spoken, self.verdict = True, ("excluded", str(reason))

    def shed(self) -> None:
        """It was refused by our own shedding of load: a request by a 429 or 503, a call by returning or raising."""
        self.spoken, self.is_shed = True, True

    def set(self, **attributes: str) -> None:
        """Attributes to group by, such as version="2026-11-01"."""
        told = {key: str(value) for key, value in attributes.items()}
        self.spoken, self.attributes = True, {**(self.attributes or {}), **told}

    def batch(self, items: int) -> None:
        """It answers so many items at once. Said before the model is called, it holds for a failure too."""
        self.spoken, self.items = True, items

    def payload(self, size_bytes: int) -> None:
        """So many bytes came in, for objectives that group by the class of it."""
        self.spoken, self.payload_bytes = True, size_bytes

    def tokens(self, count: int = 1) -> None:
        """So many tokens of a streamed answer have come now, together; 0: what comes next is no token.

        Within a generator or a response whose items are counted, this is said instead of the next item's one token.
        """
        if self.pace is None:
            self.spoken, self.pace = True, Pace(self.clock_ns)
        self.pace.say(count if isinstance(count, int) else 1)

    def usage(self, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """Tokens that a model was given and has answered with, for the `gen_ai.*` metrics; None is not known.

        The last word on each counts. What is no number of tokens is taken as not known.
        """
        before = self.used or (None, None)
        self.spoken, self.used = True, (_tokens(input_tokens, before[0]), _tokens(output_tokens, before[1]))


def _tokens(count: object, before: int | None) -> int | None:
    return count if isinstance(count, int) and 0 <= count <= _MOST_TOKENS else before


here: ContextVar[Words] = ContextVar("otelslo.current")


def leave(entered: Token[Words]) -> None:
    """Undo a `here.set`; in another context, as when a coroutine is collected, there is nothing to undo."""
    try:
        here.reset(entered)
    except ValueError:
        return


def current() -> Words:
    """The innermost call that is tracked around here, in this thread or task and those that copied its context.

    Outside of any it is one that nobody hears, so that a function works the same untracked.
    """
    found = here.get(None)
    return Words() if found is None else found
