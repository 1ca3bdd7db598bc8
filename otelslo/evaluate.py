"""Statuses of all objectives from one ring, in this process or from its file: definitions joined with rows.

Needs no compiler: `otelslo status` uses it as it is, the leader hands in its compiled count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from otelslo.counts import Counts
from otelslo.definition import FIRST_EXCLUDED, OTHER, OVERFLOW, UNKNOWN, Definition
from otelslo.kernels.bounds import USED_WORDS
from otelslo.latencies import observed, quantile_ns
from otelslo.ring.reader import Reader, Window
from otelslo.rowkey import RowKey
from otelslo.status import Status, assess

CountSince = Callable[[int, int], Counts]  # row, ring time of the window's start


class Rows(Protocol):
    """What statuses are made of: rows of a ring, live or saved. Times are ring time in ns."""

    @property
    def rows(self) -> int: ...
    def row_name(self, row: int) -> RowKey: ...
    def row_birth_ns(self, row: int) -> int: ...
    def wall_offset_ns(self) -> int: ...
    def cells(self, row: int) -> list[int]: ...
    def counts(self, row: int) -> Counts: ...
    def window(self, row: int, start_ns: int, now_ns: int) -> Window: ...


def statuses(
    definitions: Iterable[Definition], reader: Rows, now_ns: int, count_since: CountSince | None = None
) -> list[Status]:
    """One status per objective and group; `now_ns` is ring time. Empty overflow and unknown groups are left out."""
    offset = reader.wall_offset_ns()
    rows = _rows_by_meaning(reader)
    found = []
    for definition in definitions:
        for group, row in rows.get((definition.name, definition.meaning), ()):
            if group in (OVERFLOW, UNKNOWN) and reader.counts(row) == Counts():
                continue
            counted = _Counted(reader, row, now_ns, definition.window_ns, count_since)
            born = reader.row_birth_ns(row)
            since = born if counted.whole else max(born, counted.window.reach_ns)
            found.append(
                assess(
                    definition,
                    group,
                    counted.over,
                    counted.reasons(),
                    since + offset,
                    now_ns + offset,
                    whole=counted.whole,
                    born_ns=born + offset,
                )
            )
    return found


class _Counted:
    """One row's counts; those of the objective's own window are the reader's, which says how far back they reach."""

    def __init__(self, reader: Rows, row: int, now_ns: int, window_ns: int, count_since: CountSince | None) -> None:
        self.reader = reader
        self.row = row
        self.now_ns = now_ns
        self.count_since = count_since
        self.window_ns = window_ns
        self.window = reader.window(row, now_ns - window_ns, now_ns)

    @property
    def whole(self) -> bool:
        return self.window.whole

    def over(self, window_ns: int) -> Counts:
        if window_ns == self.window_ns:
            return self.window.counts
        start = self.now_ns - window_ns
        if self.count_since is not None:
            return self.count_since(self.row, start)
        return self.reader.window(self.row, start, self.now_ns).counts

    def reasons(self) -> dict[str, int]:
        """Counts by reason since the row's birth; the ring keeps windows per class only."""
        names = self.reader.row_name(self.row).reasons
        cells = self.reader.cells(self.row)
        found: dict[str, int] = {}
        for cell, (name, count) in enumerate(zip(names, cells, strict=True)):
            if cell and name and count:
                name = "excluded_other" if name == OTHER and cell >= FIRST_EXCLUDED else name
                found[name] = count
        return found


def _rows_by_meaning(reader: Rows) -> dict[tuple[str, str], list[tuple[str | None, int]]]:
    rows: dict[tuple[str, str], list[tuple[str | None, int]]] = {}
    for row in range(reader.rows):
        key = reader.row_name(row)
        rows.setdefault((key.slo, key.meaning), []).append((key.group, row))
    return rows


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one route or call site saw in the last `window_ns`: events, and latencies in ns."""

    kind: str
    name: str
    events: int
    window_ns: int
    p50_ns: int | None
    p95_ns: int | None
    p99_ns: int | None


def traffic(reader: Reader, now_ns: int, window_ns: int) -> Iterator[Traffic]:
    """Latency percentiles and traffic of every route and call site that had any, over at most two hours."""
    for histogram in range(reader.histograms):
        kind, _, name = reader.histogram_key(histogram).partition(" ")
        words = reader.histogram_since(histogram, now_ns - window_ns, now_ns)[:USED_WORDS]
        events = observed(words)
        if events:
            quantiles = (quantile_ns(words, q) for q in (0.5, 0.95, 0.99))
            yield Traffic(kind, name, events, window_ns, *quantiles)
