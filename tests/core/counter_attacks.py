"""A worker that adds to many named counters is killed at each of its stores: all are added to, or none is."""

from __future__ import annotations

import signal
from pathlib import Path

from otelslo.clock import ManualClock
from otelslo.counters import Cell, add, make_counters

from . import faults
from .attacks import fork, wait_for
from .small_rings import SLOT_NS, START_NS, Worker, forget, scratch

NAMES = [f"bin {n}" for n in range(40)]  # three rows


def every_store() -> dict[str, int]:
    """Once settled, the victim's batch is in all counters or in none, beside what the other worker has added."""
    store, whole = 0, 0
    while True:
        store += 1
        with scratch() as directory:
            came, counted = _attacked(directory, store)
        whole += counted
        if not came:
            assert counted, "a batch that nobody killed was not counted"
            return {"stores": store - 1, "counted": whole}


def _attacked(directory: Path, store: int) -> tuple[bool, bool]:
    other = Worker(directory, ManualClock(START_NS))
    cells = make_counters(other.ring, "(test)", "", "g", NAMES)
    add(other.ring, dict.fromkeys(cells, 1_000_000))

    def live() -> None:
        victim = Worker(directory, ManualClock(START_NS))
        own = make_counters(victim.ring, "(test)", "", "g", NAMES)
        victim.advance(SLOT_NS)
        faults.arm(store, signal.SIGKILL)
        add(victim.ring, {cell: n + 1 for n, cell in enumerate(own)})
        faults.disarm()

    came = wait_for(fork(live)) != 0
    other.advance(2 * SLOT_NS)
    other.ring.blocks.settle_dead()
    added = [total - 1_000_000 for total in _totals(other, cells)]
    assert added in ([0] * len(NAMES), list(range(1, len(NAMES) + 1))), added
    assert other.ring.reader.losses(0)[0] == []
    forget(other.ring)
    return came, added[0] == 1


def _totals(worker: Worker, cells: tuple[Cell, ...]) -> list[int]:
    return [worker.ring.reader.cells(row)[cell] for row, cell in cells]
