"""What the leader reads once, commits to SQLite, and only then decides and exports from: plain frozen values.

All totals are absolute since a row's birth, so handing over the same snapshot twice changes nothing. Times are
integer nanoseconds: *ring* time inside a snapshot, *wall* (Unix) time where a name says so; wall = ring + offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

CELL_WORDS = 16
BUCKET_WORDS = 256
WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class SlotClose:
    """A row's absolute totals at the START of one closed slot (ring time)."""

    row: int
    slot_start_ns: int
    good: int
    bad: int
    excluded: int


@dataclass(frozen=True, slots=True)
class Loss:
    """One bad event, or a batch of `count` equal ones. `latency_ns` is 0 where nothing was timed."""

    at_ns: int
    row: int
    reason: str
    count: int
    route: str
    status: int
    exception: str
    version: str
    latency_ns: int
    trace_id: str
    worker: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading of the whole ring. `row_keys`, `births_ns` and `histogram_keys` only ever grow for one ring.

    `cells` holds 16 and `buckets` 256 little-endian int64 words per key. `closes` and `losses` are what is new since
    the last commit that returned; a commit that raised is repeated with the same ones in front of newer ones.
    Raises ValueError when the parts do not belong together.
    """

    ring_id: str
    at_ns: int
    wall_offset_ns: int
    row_keys: tuple[str, ...]
    births_ns: tuple[int, ...]
    cells: bytes
    histogram_keys: tuple[str, ...]
    buckets: bytes
    closes: tuple[SlotClose, ...]
    losses: tuple[Loss, ...]
    config: str
    seq: int

    def __post_init__(self) -> None:
        if len(self.ring_id) != 32 or set(self.ring_id) - set("0123456789abcdef"):
            raise ValueError(f"Snapshot.ring_id is {self.ring_id!r}. Give 32 lower-case hex digits")
        rows = len(self.row_keys)
        _expect("births_ns", len(self.births_ns), rows, "row")
        _expect("cells (bytes)", len(self.cells), rows * CELL_WORDS * WORD_BYTES, "row")
        _expect("buckets (bytes)", len(self.buckets), len(self.histogram_keys) * BUCKET_WORDS * WORD_BYTES, "histogram")

    @property
    def wall_ns(self) -> int:
        """When it was read, in Unix nanoseconds."""
        return self.at_ns + self.wall_offset_ns


@dataclass(frozen=True, slots=True)
class Saved:
    """The last committed snapshot, and what a ring is rebuilt from.

    `slots(row, start_ns, end_ns)` yields the row's closes with start <= slot_start_ns < end in order of time (ring
    time), in short reads of a few thousand rows; the row's missing slots had no event. `closed_ns` is the newest slot
    start ever committed for this ring, None before the first. `clock` lists (since ring ns, wall offset ns).
    """

    ring_id: str
    at_ns: int
    wall_offset_ns: int
    seq: int
    row_keys: tuple[str, ...]
    births_ns: tuple[int, ...]
    cells: bytes
    histogram_keys: tuple[str, ...]
    buckets: bytes
    config: str
    closed_ns: int | None
    clock: tuple[tuple[int, int], ...]
    slots: Callable[[int, int, int], Iterator[SlotClose]]


@dataclass(frozen=True, slots=True)
class SavedLoss:
    """A loss as the history keeps it: `wall_ns` by the offset of its commit; `row_key` None once its ring is gone."""

    wall_ns: int
    row_key: str | None
    loss: Loss


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """One SLO's counts over its own window as of `wall_ns`, rounded down to `span_ns`; the last one of a span stays."""

    wall_ns: int
    span_ns: int
    slo: str
    group: str | None
    target: str | float
    window: str
    good: int
    bad: int
    excluded: int


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Something that a reviewer must be able to find later: a rebuild, a file set aside, a crash, an annotation."""

    wall_ns: int
    kind: str
    text: str


def _expect(part: str, found: int, wanted: int, per: str) -> None:
    if found != wanted:
        raise ValueError(f"Snapshot.{part} has length {found}. Give {wanted}: one share for each {per} key")
