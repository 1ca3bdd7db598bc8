"""The slow twin of the ring: a plain list of events that nobody can get wrong, for property tests to compare with.

Nothing here is fast, shared or clever. Times and latencies are integer nanoseconds; every answer is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

CELLS = 16  # per row: 0 is good, 1 to 9 are bad, 10 to 15 excluded
ROOT = 8  # exponential histograms at scale 3: 2**3 buckets to a factor of two
NS_PER_S = 10**9


def outcome(cell: int) -> str:
    """What a cell counts as, by its position."""
    if not 0 <= cell < CELLS:
        raise ValueError(f"cell {cell}: a row has cells 0 to {CELLS - 1}")
    return "good" if cell == 0 else "bad" if cell < 10 else "excluded"


@dataclass
class NaiveRing:
    """All events that were ever added, each dated by its add."""

    events: list[tuple[int, int, int]] = field(default_factory=list)  # (time_ns, row, cell)

    def add(self, time_ns: int, row: int, cell: int) -> None:
        outcome(cell)
        self.events.append((time_ns, row, cell))

    def counts(self, row: int, start_ns: int, end_ns: int) -> tuple[int, int, int]:
        """(good, bad, excluded) of the events with start_ns <= time < end_ns."""
        found = [outcome(cell) for time_ns, of, cell in self.events if of == row and start_ns <= time_ns < end_ns]
        return found.count("good"), found.count("bad"), found.count("excluded")

    def totals(self, row: int) -> tuple[int, int, int]:
        """(good, bad, excluded) since the row's birth."""
        found = [outcome(cell) for _, of, cell in self.events if of == row]
        return found.count("good"), found.count("bad"), found.count("excluded")

    def cells(self, row: int) -> list[int]:
        """The total of each of the row's cells."""
        found = [cell for _, of, cell in self.events if of == row]
        return [found.count(cell) for cell in range(CELLS)]


@dataclass
class NaiveLatencies:
    """All latencies that were ever measured."""

    events: list[tuple[int, int]] = field(default_factory=list)  # (time_ns, latency_ns)

    def add(self, time_ns: int, latency_ns: int) -> None:
        self.events.append((time_ns, latency_ns))

    def within(self, threshold_ns: int, start_ns: int, end_ns: int) -> int:
        """How many latencies of [start_ns, end_ns) are at or under the threshold."""
        return sum(latency_ns <= threshold_ns for latency_ns in self._of(start_ns, end_ns))

    def quantile(self, q: Fraction, start_ns: int, end_ns: int) -> int | None:
        """The smallest latency of [start_ns, end_ns) in ns with at least a share q at or under it; None without any."""
        if not 0 <= q <= 1:
            raise ValueError(f"quantile {q}: must be from 0 to 1")
        latencies = sorted(self._of(start_ns, end_ns))
        return latencies[max(ceil(q * len(latencies)), 1) - 1] if latencies else None

    def buckets(self, start_ns: int, end_ns: int) -> dict[int, int]:
        """Bucket index -> count, of the latencies of [start_ns, end_ns) that are above zero."""
        found = [bucket_index(latency_ns) for latency_ns in self._of(start_ns, end_ns) if latency_ns > 0]
        return {index: found.count(index) for index in sorted(set(found))}

    def _of(self, start_ns: int, end_ns: int) -> list[int]:
        return [latency_ns for time_ns, latency_ns in self.events if start_ns <= time_ns < end_ns]


def bucket_index(latency_ns: int) -> int:
    """The index i of OpenTelemetry's exponential bucket (2**(i/8) s, 2**((i+1)/8) s] that holds the latency.

    Compared as 8th powers, so that the bounds, which are irrational, are met exactly. Raises ValueError for a latency
    that is not above zero: a histogram counts zeros apart.
    """
    if latency_ns <= 0:
        raise ValueError(f"latency {latency_ns} ns has no bucket: only those above zero have one")
    power: int = latency_ns**ROOT
    unit: int = NS_PER_S**ROOT

    def at_most(exponent: int) -> bool:  # (latency in s) ** 8 <= 2 ** exponent
        return power << max(-exponent, 0) <= unit << max(exponent, 0)

    upper = power.bit_length() - unit.bit_length() - 1  # below the answer
    while not at_most(upper):
        upper += 1
    return upper - 1
