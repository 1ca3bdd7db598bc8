"""Rings small enough to wrap in a test, and one worker of such a ring with its rows, plans and clock."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from otelslo.clock import Clock, ManualClock
from otelslo.kernels import layout as at
from otelslo.kernels.ring import Kernels, compile_kernels
from otelslo.plans import Entry, Labels, Plans, plan_words
from otelslo.ring.geometry import Geometry
from otelslo.ring.live import Ring
from otelslo.ring.opening import open_ring

FULL = os.environ.get("OTELSLO_TORTURE") == "full"
SLOT_NS = 1_000_000_000
START_NS = 1_700_000_000 * SLOT_NS
THRESHOLD_NS = 1_000_000
BAD, CRASHED, EXCLUDED = 1, 2, 10

SMALL = Geometry(
    max_rows=32,
    max_tracks=8,
    max_histograms=4,
    max_blocks=12,
    fine_ns=SLOT_NS,
    fine_slots=64,
    fine_per_coarse=4,
    coarse_slots=64,
    snapshot_ns=2 * SLOT_NS,
    snapshots=8,
    log_records=64,
    strings_bytes=8192,
)

TINY = replace(SMALL, fine_slots=8, coarse_slots=8, snapshots=2, max_rows=16, max_blocks=4, strings_bytes=4096)

_libc = ctypes.CDLL(None)
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory if there is one, so that thousands of rings cost no disk."""
    there = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="otelslo-", dir=there))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def forget(ring: Ring) -> None:
    """Give a ring's address space back: only a test that makes thousands may, since nothing uses this one again."""
    ring.blocks.detach()
    for page in (ring.blocks.page, ring.blocks._settling):
        _libc.munmap(page.address, mmap.PAGESIZE * -(-at.PRIVATE_BYTES // mmap.PAGESIZE))
    _libc.munmap(ring.memory.base, ring.geometry.most_bytes)
    ring.memory.close()


class Worker:
    """One process's (or one in-process twin's) use of a ring: rows "row 0" ..., one track over them, one histogram."""

    def __init__(
        self,
        directory: Path | None,
        clock: Clock,
        *,
        rows: int = 3,
        geometry: Geometry = SMALL,
        histogram: bool = True,
        attach: bool = True,
    ) -> None:
        self.kernels: Kernels = compile_kernels()
        self.clock = clock
        self.ring, self.notices = open_ring(directory, geometry, clock, self.kernels)
        self.page = self.ring.page
        self._plans = Plans()
        now_ns = clock.ring_ns()
        names = self.ring.directory
        self.rows = [names.row(f"row {i}", now_ns) for i in range(rows)]
        self.histogram = names.histogram("histogram", now_ns) if histogram else -1
        crash = plan_words([Entry(row, at.NO_THRESHOLD, CRASHED, CRASHED) for row in self.rows], -1, Labels())
        self.track = names.track("track of " + " ".join(map(str, self.rows)), crash)
        self.good, self.bad, self.excluded = (self.plan(self.rows, cell) for cell in (0, BAD, EXCLUDED))
        if attach:
            self.attach()

    def plan(self, rows: Sequence[int], cell: int, labels: Labels | None = None) -> int:
        """A plan over `rows`; a good event above the threshold is bad."""
        beyond = BAD if cell == 0 else cell
        entries = [Entry(row, THRESHOLD_NS, cell, beyond) for row in rows]
        return self._plans.address(plan_words(entries, self.histogram, labels or Labels()))

    def attach(self) -> None:
        self.ring.blocks.attach()

    def advance(self, ns: int) -> None:
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(ns=ns)
        self.ring.blocks.advance_manual_clock()

    def begin(self) -> int:
        return self.kernels.begin(self.page, self.track)

    def end(self, token: int, plan: int) -> int:
        return self.kernels.end(self.page, self.track, token, plan)

    def record(self, plan: int, latency_ns: int) -> int:
        return self.kernels.record(self.page, plan, latency_ns)

    def record_many(self, plans: Sequence[int], outcomes: Sequence[int], latencies_ns: Sequence[int]) -> int:
        padded = np.zeros(len(outcomes) // 8 + 1, dtype=np.int64)
        padded.view(np.int8)[: len(outcomes)] = outcomes
        latencies = np.array(latencies_ns, dtype=np.int64)
        words = np.array([len(outcomes), padded.ctypes.data, latencies.ctypes.data, *plans], dtype=np.int64)
        return self.kernels.record_many(self.page, words.ctypes.data)

    def record_alike(self, plan: int, number: int, latency_ns: int, token: int) -> int:
        """So many events of one plan and latency, of the request of `token`."""
        words = np.array([number, 0, latency_ns, plan, token], dtype=np.int64)
        return self.kernels.record_many(self.page, words.ctypes.data)

    def add(self, cells: Sequence[tuple[int, int, int]]) -> int:
        """Counts of (row, cell, count) into cells of their own, by one commit."""
        words = np.array([len(cells), *(word for one in cells for word in one)], dtype=np.int64)
        return self.kernels.add(self.page, words.ctypes.data)

    def count(self, row: int, start_ns: int) -> tuple[int, int, int]:
        """By the kernel, from the slot of `start_ns`; a ring at rest that never answers is an error."""
        for _ in range(1000):
            if self.kernels.count(self.page, row, start_ns) >= 0:
                first = at.P_COUNTS // 8
                good, bad, excluded = self.ring.blocks.page.words[first : first + 3].tolist()
                return good, bad, excluded
        raise AssertionError(f"row {row} cannot be counted from {start_ns}")

    def window(self, row: int, start_ns: int) -> tuple[int, int, int]:
        """The same by the reader that needs no compiler."""
        counts = self.ring.reader.window(row, start_ns, self.clock.ring_ns()).counts
        return counts.good, counts.bad, counts.excluded
