"""What one event writes: rows, thresholds and cells as words that the kernels read, made once for each combination.

A plan is found again by its content, so clearing the memos above it costs no memory. Plans hold row numbers, not
addresses, and stay right in a forked child.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from otelslo.errors import CapacityError
from otelslo.kernels import layout as at


class Entry(NamedTuple):
    """One row of a plan: the cell for a latency at or under the threshold (ns), and the cell above it."""

    row: int
    threshold_ns: int
    within: int
    beyond: int


class Labels(NamedTuple):
    """What the loss log says of an event; texts as offsets in the ring's string area, 0 for none."""

    route: int = 0
    status: int = 0
    exception: int = 0
    version: int = 0


def plan_words(entries: Sequence[Entry], histogram: int, labels: Labels) -> tuple[int, ...]:
    """The words of a plan; `histogram` is -1 for none.

    Raises:
        CapacityError: more rows than one commit can hold.
    """
    if len(entries) > at.MAX_PLAN_ROWS:
        raise CapacityError(
            f"one event would count in {len(entries)} rows, {at.MAX_PLAN_ROWS} at most can be committed"
        )
    head = (len(entries), histogram, *labels)
    return head + tuple(word for entry in entries for word in entry)


class Plans:
    """Plans of this process by content."""

    def __init__(self) -> None:
        self._by_words: dict[tuple[int, ...], tuple[int, array[int]]] = {}

    def address(self, words: tuple[int, ...]) -> int:
        """The address of a plan of these words; it never moves."""
        found = self._by_words.get(words)
        if found is None:
            stored = array("q", words)
            found = self._by_words.setdefault(words, (stored.buffer_info()[0], stored))
        return found[0]
