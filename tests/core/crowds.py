"""Many processes that count into one ring as fast as compiled loops go, and readers that never stop looking."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np

from otelslo.clock import SystemClock
from otelslo.kernels import layout as at
from otelslo.kernels.bounds import USED_WORDS, ZERO
from otelslo.plans import Labels
from otelslo.ring.geometry import Geometry

from .attacks import fork, wait_for
from .lives import shared_words
from .loops import compile_loops
from .small_rings import SMALL, Worker, forget, scratch

QUICK = replace(SMALL, fine_ns=200_000, snapshot_ns=1_000_000)  # slots turn 5,000 times a second
CHUNK = 5_000
BACK_SLOTS = (0, 0, 0, 1, 2, 5, 40, 62, 63, 100, 240, 300)
BATCH = 1_000
READINGS = 0  # the word that readers share with the one who waits


def adds(processes: int, events: int) -> dict[str, int]:
    """A third of the events as requests, a third as records, a third in batches; beside them two live readers."""
    shared = shared_words(1)
    chunks = -(-events // (processes * 3 * CHUNK))
    with scratch() as directory:
        looking = Worker(directory, SystemClock(), rows=2, geometry=QUICK)
        readers = [fork(lambda r=r: _read(directory, shared, r)) for r in range(2)]
        pids = [fork(lambda: _add(directory, chunks)) for _ in range(processes)]
        codes = [wait_for(pid) for pid in pids]
        for pid in readers:
            os.kill(pid, signal.SIGKILL)
            wait_for(pid)
        assert codes == [0] * processes
        total = processes * chunks * CHUNK
        _check_added(looking, total)
        forget(looking.ring)
    return {"events": 3 * total, "readings": shared[READINGS]}


def _check_added(looking: Worker, total: int) -> None:
    reader = looking.ring.reader
    for row in looking.rows:
        counts = reader.counts(row)
        assert (counts.valid, counts.excluded) == (2 * total, total), f"{3 * total} added, {counts}"
        born_ns = reader.row_birth_ns(row) - QUICK.coarse_ns
        assert sum(looking.count(row, born_ns)) <= 3 * total
    assert reader.begun() == total
    assert reader.in_flight() == 0
    assert sum(reader.histogram(looking.histogram)[ZERO:USED_WORDS]) == 3 * total


def _add(directory: Path, chunks: int) -> None:
    worker, loops = Worker(directory, SystemClock(), rows=2, geometry=QUICK), compile_loops()
    outcomes, latencies = np.full(BATCH // 8 + 1, 0x0202020202020202), np.arange(BATCH) * 1000
    batch = np.array([BATCH, outcomes.ctypes.data, latencies.ctypes.data, worker.good, worker.bad, worker.excluded])
    for i in range(chunks):
        assert loops.request(worker.page, worker.track, worker.good, CHUNK) == CHUNK
        assert loops.record(worker.page, worker.bad if i % 3 == 0 else worker.good, 1 + i, CHUNK) == CHUNK
        assert loops.batch(worker.page, batch.ctypes.data, CHUNK // BATCH) == 0


def _read(directory: Path, shared: memoryview, which: int) -> None:
    """Totals never go back, nor fall below what another reader saw; windows are within them; never above begun."""
    worker = Worker(directory, SystemClock(), rows=2, geometry=QUICK, attach=which == 0)
    reader = worker.ring.reader
    last = [(0, 0, 0)] * len(worker.rows)
    while True:
        for row in worker.rows:
            now_ns = worker.clock.ring_ns()
            ok = _look(worker, row, now_ns - BACK_SLOTS[shared[READINGS] % len(BACK_SLOTS)] * QUICK.fine_ns, last)
            assert ok, f"row {row}: after {last[row]} {reader.cells(row)}"
        shared[READINGS] += 1


def _look(worker: Worker, row: int, start_ns: int, last: list[tuple[int, int, int]]) -> bool:
    reader = worker.ring.reader
    before = reader.counts(row)
    windows = [worker.window(row, start_ns)]
    code = at.ASK_AGAIN if worker.ring.blocks.index is None else worker.kernels.count(worker.page, row, start_ns)
    if code >= 0:
        first = at.P_COUNTS // 8
        good, bad, excluded = worker.ring.blocks.page.words[first : first + 3].tolist()
        windows.append((good, bad, excluded))
    counts = reader.counts(row)
    seen = (counts.good, counts.bad, counts.excluded)
    grows = all(a <= b for a, b in zip(last[row], (before.good, before.bad, before.excluded), strict=True))
    inside = all(0 <= part <= most for window in windows for part, most in zip(window, seen, strict=True))
    last[row] = seen
    return grows and inside and reader.in_flight() >= 0


def never_above_begun(processes: int, requests: int) -> dict[str, int]:
    """Requests only: cells read first, begun after, so that a total above begun is an event out of nothing."""
    chunks = -(-requests // (processes * CHUNK))
    readings = 0
    with scratch() as directory:
        looking = Worker(directory, SystemClock(), rows=2, geometry=QUICK)
        pids = {fork(lambda: _request(directory, chunks)) for _ in range(processes)}
        reader = looking.ring.reader
        while pids:
            counted = [reader.counts(row).valid for row in looking.rows]
            assert max(counted) <= reader.begun()
            readings += 1
            if readings % 50 == 0:
                done = {pid for pid in pids if os.waitpid(pid, os.WNOHANG) != (0, 0)}
                pids -= done
        assert [reader.counts(row).valid for row in looking.rows] == [processes * chunks * CHUNK] * 2
        forget(looking.ring)
    return {"requests": processes * chunks * CHUNK, "readings": readings}


def _request(directory: Path, chunks: int) -> None:
    worker, loops = Worker(directory, SystemClock(), rows=2, geometry=QUICK), compile_loops()
    for _ in range(chunks):
        assert loops.request(worker.page, worker.track, worker.good, CHUNK) == CHUNK


def torn_losses(events: int) -> dict[str, int]:
    """Bad events of two kinds in turn into a log of four records, read all the while: no record is of both kinds."""
    geometry = replace(QUICK, log_records=4)
    with scratch() as directory:
        looking = Worker(directory, SystemClock(), rows=2, geometry=geometry)
        pid = fork(lambda: _lose(directory, geometry, events))
        seen, torn = 0, 0
        ended = (0, 0)
        while ended == (0, 0):
            for block in range(looking.ring.reader.blocks):
                for loss in looking.ring.reader.losses(block)[0]:
                    seen += 1
                    torn += loss.latency_ns != loss.status or looking.rows.index(loss.row) != loss.status - 1
            ended = os.waitpid(pid, os.WNOHANG)
        assert ended[1] == 0
        forget(looking.ring)
    return {"records": seen, "torn": torn}


def _lose(directory: Path, geometry: Geometry, events: int) -> None:
    worker, loops = Worker(directory, SystemClock(), rows=2, geometry=geometry), compile_loops()
    first, second = (worker.plan([worker.rows[kind - 1]], 1, Labels(status=kind)) for kind in (1, 2))
    for _ in range(events // (2 * CHUNK)):
        loops.alternate(worker.page, first, second, CHUNK)
