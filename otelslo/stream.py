"""The pace of one streamed answer as plain values: when items came, and what follows from it for each promise.

An edge keeps a `Pace` while the stream runs, and makes `StreamFacts` of it at the end. Time is an argument, but for the
clock that a pace is given, so that one item costs little. All in ns.

    time to first token     first - begin
    gap between tokens      from one item to the next
    time per output token   (last - first) / (tokens - 1), from two items on
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

MOST_GAPS = 65_536
_FRESH = 256
_NONE: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream, all times in ns since its call began.

    An item is what was handed over at once, with one token unless the app said otherwise; `first_ns` and `last_ns` are
    None without any. `arrivals` holds when items came, up to MOST_GAPS gaps (their zero is of no matter); of later gaps
    only the largest is known. `event_stream` is False for an HTTP response that is streamed but no text/event-stream.
    """

    first_ns: int | None
    items: int
    tokens: int
    last_ns: int | None
    end_ns: int
    arrivals: Sequence[int] = field(default=_NONE, repr=False)
    largest_later_ns: int = 0
    event_stream: bool = True

    @classmethod
    def of(cls, times_ns: Sequence[int], end_ns: int, tokens: int | None = None) -> StreamFacts:
        """The facts of items that came at `times_ns` after the begin; as many tokens as items unless told."""
        pace = Pace(lambda: 0)
        for time_ns in times_ns:
            pace.add(time_ns)
        pace.extra = 0 if tokens is None else tokens - len(times_ns)
        return pace.facts(0, end_ns)

    @property
    def ttft_ns(self) -> int | None:
        """Time to the first item; None if there was none."""
        return self.first_ns

    @property
    def has_gaps(self) -> bool:
        """Whether there are two items: one alone has neither gaps nor a time per token."""
        return self.items > 1

    def tpot_within(self, limit_ns: int) -> bool:
        """Whether the mean time of each token after the first is at or under the limit; True if there is none."""
        if self.first_ns is None or self.last_ns is None:
            return True
        return self.last_ns - self.first_ns <= limit_ns * max(0, self.tokens - 1)

    def gap_ns(self, share: Fraction | None = None) -> int | None:
        """The largest gap; with a share (above 0, at most 1) the smallest that so many of the kept gaps are within.

        None without gaps.
        """
        if not self.has_gaps:
            return None
        import numpy as np  # whoever counts has loaded it; 45 ns a token without

        gaps = np.diff(np.asarray(self.arrivals, dtype=np.int64))
        if share is None:
            return max(self.largest_later_ns, int(gaps.max(initial=0)))
        rank = -(-len(gaps) * share.numerator // share.denominator)
        return int(np.partition(gaps, rank - 1)[rank - 1])

    def silence_ns(self) -> int:
        """How long nothing had come when it ended."""
        return self.end_ns - (self.last_ns or 0)


class Pace:
    """When the items of a running stream came. Nothing here raises.

    Args:
        clock_ns: the clock that the begin was read from.
    """

    __slots__ = (
        *("_arrivals", "_clock_ns", "_fresh", "_last_ns", "_later", "_later_gap_ns", "_said"),
        *("begin_ns", "event_stream", "extra"),
    )

    def __init__(self, clock_ns: Callable[[], int], begin_ns: int | None = None, event_stream: bool = True) -> None:
        self._clock_ns = clock_ns
        self.begin_ns = begin_ns  # where the edge knows better than whoever asks for the facts
        self.event_stream = event_stream
        self.extra = 0  # tokens beyond one an item
        self._fresh: list[int] = []  # a list takes a time in 11 ns, an array in 52, and keeps it in 8 bytes for 40
        self._arrivals = array("q")
        self._said = False
        self._later = self._last_ns = self._later_gap_ns = 0

    def add(self, now_ns: int) -> None:
        """An item came at `now_ns`."""
        if len(self._fresh) >= _FRESH:
            self._settle()
        self._fresh.append(now_ns)

    def _settle(self) -> None:
        """Put away what has come; beyond what is kept, no more than the largest gap."""
        arrivals, fresh = self._arrivals, self._fresh
        room = MOST_GAPS + 1 - len(arrivals)
        later = fresh[room:]
        arrivals.fromlist(fresh[:room])
        fresh.clear()
        if later:
            before_ns = self._last_ns if self._later else arrivals[-1]
            gaps_ns = (now_ns - then_ns for then_ns, now_ns in pairwise([before_ns, *later]))
            self._later_gap_ns = max(self._later_gap_ns, *gaps_ns)
            self._later, self._last_ns = self._later + len(later), later[-1]

    def hand_over(self, is_token: bool = True) -> None:
        """An item was handed over now: a token, unless it is none or the app has said how many it holds."""
        if self._said:
            self._said = False
        elif is_token:
            self.add(self._clock_ns())

    def per_item(self, is_token: Callable[[Any], bool]) -> Callable[[Any], None]:
        """`hand_over`, to be told each item; flat, since it is called for each token. What `is_token` raises passes.

        It is asked of texts only where they may be server-sent events, which begin with "data".
        """
        fresh, clock_ns, most = self._fresh, self._clock_ns, _FRESH

        def handed_over(item: Any) -> None:
            if self._said:
                self._said = False
            elif (type(item) is str and item and item[0] != "d") or is_token(item):
                if len(fresh) < most:
                    fresh.append(clock_ns())
                else:
                    self.add(clock_ns())

        return handed_over

    def say(self, tokens: int) -> None:
        """So many tokens came now, as one item; 0 is none."""
        self._said = True
        if tokens > 0:
            self.add(self._clock_ns())
            self.extra += tokens - 1

    @property
    def items(self) -> int:
        return len(self._arrivals) + self._later + len(self._fresh)

    def facts(self, begin_ns: int, end_ns: int) -> StreamFacts:
        """What there is to know of the stream that began and ended then."""
        self._settle()
        begin_ns = begin_ns if self.begin_ns is None else self.begin_ns
        arrivals, later = self._arrivals, self._later
        if not arrivals:
            return StreamFacts(None, 0, 0, None, end_ns - begin_ns, event_stream=self.event_stream)
        return StreamFacts(
            first_ns=arrivals[0] - begin_ns,
            items=len(arrivals) + later,
            tokens=len(arrivals) + later + self.extra,
            last_ns=(self._last_ns if later else arrivals[-1]) - begin_ns,
            end_ns=end_ns - begin_ns,
            arrivals=arrivals,
            largest_later_ns=self._later_gap_ns,
            event_stream=self.event_stream,
        )
