"""A small ring and the naive list of events beside it, driven by the same operations; every answer must be equal.

Two in-process workers share the ring. Windows begin where the ring's do: at the (coarse) slot of their start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from naive import NaiveRing, bucket_index

from otelslo.clock import ManualClock
from otelslo.kernels import layout as at
from otelslo.kernels.bounds import FIRST, LOWEST_INDEX, OVERFLOW, SUM, SUM_SHIFT, USED_WORDS, ZERO

from .small_rings import BAD, CRASHED, SMALL, START_NS, THRESHOLD_NS, Worker, forget

MANY_ROWS = replace(SMALL, max_rows=160, max_tracks=48)  # so that a ring lasts for many episodes


@lru_cache(maxsize=100_000)
def word_of(latency_ns: int) -> int:
    """The histogram word of a latency, by the naive bucket index."""
    index = bucket_index(latency_ns) if latency_ns > 0 else LOWEST_INDEX - 1
    return ZERO if index < LOWEST_INDEX else min(OVERFLOW, FIRST + index - LOWEST_INDEX)


class Twin:
    """`begin_episode` forgets the past by taking new rows of the same ring, so that the naive list stays short."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock(START_NS)
        self.workers = [Worker(directory, self.clock, rows=0, geometry=MANY_ROWS) for _ in range(2)]
        self.names = 0
        self.histogram = self.workers[0].histogram
        self.latencies: list[tuple[int, int]] = []
        self.waiting: list[list[int]] = [[], []]
        self.begin_episode()

    def close(self) -> None:
        for worker in self.workers:
            forget(worker.ring)

    @property
    def full(self) -> bool:
        return self.workers[0].ring.reader.rows > MANY_ROWS.max_rows - 3 or self.track_number >= MANY_ROWS.max_tracks

    @property
    def now_ns(self) -> int:
        return self.clock.ring_ns()

    def begin_episode(self) -> None:
        for i, worker in enumerate(self.workers):
            while self.waiting[i]:
                token = self.waiting[i].pop()
                assert worker.end(token, self.plans[i][0]) >= 0
                self._timed(self.now_ns, self.now_ns - token)
        self.naive = NaiveRing()
        self.rows: list[int] = []
        self.new_row()
        self.new_row()
        self.in_track = list(self.rows)
        self.track()

    def track(self) -> None:
        for worker in self.workers:
            worker.rows = self.in_track
            crash = [len(self.in_track), -1, 0, 0, 0, 0]
            for row in self.in_track:
                crash += [row, at.NO_THRESHOLD, CRASHED, CRASHED]
            worker.track = worker.ring.directory.track(f"track {self.in_track}", crash)
            self.track_number = worker.track + 1
        self.plans = [[worker.plan(self.in_track, cell) for cell in range(at.CELLS)] for worker in self.workers]

    # ── operations ─────────────────────────────────────────────────────────────────────────────────────────────────
    def new_row(self) -> None:
        """A row named by one worker and found by the other, born now; not on the track."""
        self.names += 1
        made = {worker.ring.directory.row(f"row {self.names}", self.now_ns) for worker in self.workers}
        (row,) = made
        self.rows.append(row)

    def record(self, w: int, cell: int, latency_ns: int) -> None:
        code = self.workers[w].record(self.plans[w][cell], latency_ns)
        assert code >= 0
        self._note(self.in_track, cell, latency_ns)
        self._timed(self.now_ns, latency_ns)

    def record_apart(self, w: int, row: int, cell: int, latency_ns: int) -> None:
        worker = self.workers[w]
        assert worker.record(worker.plan([row], cell), latency_ns) >= 0
        self._note([row], cell, latency_ns)
        self._timed(self.now_ns, latency_ns)

    def record_many(self, w: int, outcomes: Sequence[int], latencies_ns: Sequence[int]) -> None:
        cells = (0, BAD, 10)
        plans = [self.plans[w][cell] for cell in cells]
        bad = [not 0 <= latency_ns <= 1 << 62 for latency_ns in latencies_ns]
        assert self.workers[w].record_many(plans, outcomes, latencies_ns) == sum(bad)
        for outcome, latency_ns, refused in zip(outcomes, latencies_ns, bad, strict=True):
            if not refused:
                self._note(self.in_track, cells[outcome], latency_ns)
                self._timed(self.now_ns, latency_ns)

    def add(self, w: int, counts: dict[tuple[int, int], int]) -> None:
        """`counts` by the row's place among those that there are, and the cell."""
        named = {(self.rows[pick % len(self.rows)], cell): count for (pick, cell), count in counts.items()}
        assert self.workers[w].add([(row, cell, count) for (row, cell), count in named.items()]) == 0
        for (row, cell), count in named.items():
            for _ in range(count):
                self._note([row], cell, 0)

    def begin(self, w: int) -> None:
        token = self.workers[w].begin()
        assert token > 0
        self.waiting[w].append(token)

    def end(self, w: int, cell: int) -> None:
        if self.waiting[w]:
            token = self.waiting[w].pop()
            assert self.workers[w].end(token, self.plans[w][cell]) >= 0
            self._note(self.in_track, cell, self.now_ns - token)
            self._timed(self.now_ns, self.now_ns - token)

    def advance(self, ns: int) -> None:
        self.clock.advance(ns=ns)
        for worker in self.workers:
            worker.ring.blocks.advance_manual_clock()

    def reattach(self, w: int) -> None:
        """Give the block back with what is in flight, which whoever comes next books as crashed."""
        self.advance(1)  # on a clock that stands, a token is not older than the attach
        self.workers[w].ring.blocks.detach()
        self.workers[w].attach()
        for token in self.waiting[w]:
            self._note(self.in_track, CRASHED, 0)
            assert self.workers[w].end(token, self.plans[w][0]) == at.NOT_ATTACHED
        self.waiting[w].clear()

    def open_all(self, w: int) -> None:
        self.workers[w].kernels.open_all(self.workers[w].page)

    # ── comparisons ────────────────────────────────────────────────────────────────────────────────────────────────
    def check_window(self, w: int, row: int, start_ns: int) -> None:
        worker, expected = self.workers[w], self.naive.counts(row, self._floor(start_ns), self.now_ns + 1)
        assert worker.count(row, start_ns) == expected, f"row {row} from {start_ns}"
        assert worker.window(row, start_ns) == expected, f"row {row} from {start_ns}, by the reader"

    def check_totals(self) -> None:
        reader = self.workers[0].ring.reader
        for row in self.rows:
            assert reader.cells(row) == self.naive.cells(row)
            counts = reader.counts(row)
            assert (counts.good, counts.bad, counts.excluded) == self.naive.totals(row)
        assert reader.in_flight() == len(self.waiting[0]) + len(self.waiting[1])

    def check_latencies(self, back_ns: int) -> None:
        g, reader = SMALL, self.workers[0].ring.reader
        start = max((self.now_ns - back_ns) // g.snapshot_ns, self.now_ns // g.snapshot_ns - g.snapshots + 2)
        first = bisect_left(self.latencies, (start * g.snapshot_ns, -1))
        expected, total = [0] * USED_WORDS, 0
        for _, latency_ns in self.latencies[first:]:
            expected[word_of(latency_ns)] += 1
            total += (latency_ns + 512) >> SUM_SHIFT
        found = reader.histogram_since(self.histogram, self.now_ns - back_ns, self.now_ns)
        assert found[ZERO:USED_WORDS] == expected[ZERO:]
        assert found[SUM] == total

    def _floor(self, start_ns: int) -> int:
        g = SMALL
        if self.now_ns // g.fine_ns - start_ns // g.fine_ns < g.fine_slots - 1:
            return start_ns // g.fine_ns * g.fine_ns
        oldest = self.now_ns // g.coarse_ns - g.coarse_slots + 2
        return max(start_ns // g.coarse_ns, oldest) * g.coarse_ns

    def _note(self, rows: Sequence[int], cell: int, latency_ns: int) -> None:
        cell = BAD if cell == 0 and latency_ns > THRESHOLD_NS else cell
        for row in rows:
            self.naive.add(self.now_ns, row, cell)

    def _timed(self, time_ns: int, latency_ns: int) -> None:
        self.latencies.append((time_ns, latency_ns))
        reach_ns = time_ns - SMALL.snapshots * SMALL.snapshot_ns
        if len(self.latencies) > 2000 and self.latencies[1000][0] < reach_ns:
            del self.latencies[:1000]
