"""The value that everyone trades in: how many events of a window were good, bad, or excluded.

Counts can come from a live ring, from SQLite, from Prometheus or from a test; whoever decides cannot tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one window, each in exactly one of the three."""

    good: int = 0
    bad: int = 0
    excluded: int = 0

    @property
    def valid(self) -> int:
        """Events that the objective is about: good + bad."""
        return self.good + self.bad

    @property
    def total(self) -> int:
        """All events, the excluded ones too."""
        return self.good + self.bad + self.excluded

    @property
    def sli(self) -> Fraction | None:
        """good / valid, exactly; None if nothing valid happened, since no data is not good data."""
        return Fraction(self.good, self.valid) if self.valid else None

    @property
    def excluded_ratio(self) -> Fraction | None:
        """excluded / total, exactly; None if nothing happened."""
        return Fraction(self.excluded, self.total) if self.total else None

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.good + other.good, self.bad + other.bad, self.excluded + other.excluded)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.good - other.good, self.bad - other.bad, self.excluded - other.excluded)
