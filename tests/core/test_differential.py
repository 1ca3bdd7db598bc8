"""Random operations on a small ring and on a naive list of events: every window, cell and bucket is equal.

1,000,000 operations (10,000,000 with OTELSLO_TORTURE=full); kernel and reader answer every window alike.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otelslo.kernels import layout as at

from .small_rings import FULL, SLOT_NS, SMALL, scratch
from .twin import Twin

OPERATIONS = 10_000_000 if FULL else 1_000_000
EPISODE = 150
RING_NS = SMALL.coarse_slots * SMALL.coarse_ns
LATENCIES_NS = (0, 1, 953, 954, 999_999, 1_000_000, 1_000_001, 7_123_456, 10**9, 1024 * 10**9, 1024 * 10**9 + 1)
KINDS = (
    *("record", "apart", "many", "add", "begin", "end", "advance", "window", "totals", "latencies", "open", "row"),
    "attach",
)
WEIGHTS = (40, 4, 3, 2, 9, 10, 14, 14, 1, 1, 1, 0.3, 0.7)


def advance_by(rng: random.Random) -> int:
    """Mostly within a slot, often by some, now and then by more than the ring or by hundreds of rings."""
    kind = rng.random()
    if kind < 0.6:
        return rng.randrange(SLOT_NS)
    if kind < 0.9:
        return rng.randrange(5 * SLOT_NS)
    if kind < 0.98:
        return rng.randrange(80 * SLOT_NS)
    return rng.randrange(2 * RING_NS) if kind < 0.999 else rng.randrange(300 * RING_NS)


def start_of(twin: Twin, rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.6:
        return twin.now_ns - rng.randrange(64 * SLOT_NS)
    if kind < 0.97:
        return twin.now_ns - rng.randrange(RING_NS + 10 * SLOT_NS)
    return twin.now_ns + rng.randrange(3 * SLOT_NS)


def operate(twin: Twin, rng: random.Random, kind: str) -> None:
    w = rng.randrange(2)
    if kind == "record":
        twin.record(w, rng.randrange(at.CELLS), rng.choice(LATENCIES_NS))
    elif kind == "apart":
        twin.record_apart(w, rng.choice(twin.rows), rng.randrange(at.CELLS), rng.choice(LATENCIES_NS))
    elif kind == "many":
        n = rng.randrange(20)
        latencies = [rng.choice((*LATENCIES_NS, -1, (1 << 62) + 1)) for _ in range(n)]
        twin.record_many(w, [rng.randrange(3) for _ in range(n)], latencies)
    elif kind == "add":
        cells = [(rng.randrange(30), rng.randrange(at.CELLS)) for _ in range(rng.randrange(20))]
        twin.add(w, {place: rng.randrange(4) for place in cells})
    elif kind == "begin":
        twin.begin(w)
    elif kind == "end":
        twin.end(w, rng.randrange(at.CELLS))
    elif kind == "advance":
        twin.advance(advance_by(rng))
    elif kind == "window":
        twin.check_window(w, rng.choice(twin.rows), start_of(twin, rng))
    elif kind == "totals":
        twin.check_totals()
    elif kind == "latencies":
        twin.check_latencies(rng.randrange(10) * SMALL.snapshot_ns)
    elif kind == "open":
        twin.open_all(w)
    elif kind == "row" and not twin.full:
        twin.new_row()
    elif kind == "attach":
        twin.reattach(w)


@pytest.mark.torture
def test_random_operations() -> None:
    rng = random.Random(20261124)
    done = 0
    while done < OPERATIONS:
        with scratch() as directory:
            twin = Twin(directory)
            while not twin.full and done < OPERATIONS:
                twin.begin_episode()
                for kind in rng.choices(KINDS, WEIGHTS, k=EPISODE):
                    operate(twin, rng, kind)
                done += EPISODE
            twin.close()
    print(f"{done} operations")


WORKERS = st.integers(0, 1)
CELLS = st.integers(0, at.CELLS - 1)
LATENCY_NS = st.one_of(st.sampled_from(LATENCIES_NS), st.integers(0, 2**50))


class RingMachine(RuleBasedStateMachine):
    """The same operations, chosen and shrunk by hypothesis."""

    @initialize()
    def make(self) -> None:
        self._scratch = scratch()
        self.twin = Twin(self._scratch.__enter__())

    def teardown(self) -> None:
        if hasattr(self, "twin"):
            self.twin.close()
            self._scratch.__exit__(None, None, None)

    @rule(w=WORKERS, cell=CELLS, latency_ns=LATENCY_NS)
    def record(self, w: int, cell: int, latency_ns: int) -> None:
        self.twin.record(w, cell, latency_ns)

    @rule(w=WORKERS, pick=st.integers(0, 30), cell=CELLS, latency_ns=LATENCY_NS)
    def record_apart(self, w: int, pick: int, cell: int, latency_ns: int) -> None:
        self.twin.record_apart(w, self.twin.rows[pick % len(self.twin.rows)], cell, latency_ns)

    @rule(w=WORKERS, events=st.lists(st.tuples(st.integers(0, 2), LATENCY_NS | st.just(-5)), max_size=20))
    def record_many(self, w: int, events: list[tuple[int, int]]) -> None:
        self.twin.record_many(w, [outcome for outcome, _ in events], [latency_ns for _, latency_ns in events])

    @rule(w=WORKERS, counts=st.dictionaries(st.tuples(st.integers(0, 30), CELLS), st.integers(0, 9), max_size=20))
    def add(self, w: int, counts: dict[tuple[int, int], int]) -> None:
        self.twin.add(w, counts)

    @rule(w=WORKERS)
    def begin(self, w: int) -> None:
        self.twin.begin(w)

    @rule(w=WORKERS, cell=CELLS)
    def end(self, w: int, cell: int) -> None:
        self.twin.end(w, cell)

    @rule(ns=st.one_of(st.integers(0, 5 * SLOT_NS), st.integers(0, 3 * RING_NS), st.integers(0, 30 * RING_NS)))
    def advance(self, ns: int) -> None:
        self.twin.advance(ns)

    @rule(w=WORKERS)
    def reattach(self, w: int) -> None:
        self.twin.reattach(w)

    @rule(w=WORKERS)
    def open_all(self, w: int) -> None:
        self.twin.open_all(w)

    @rule()
    def new_row(self) -> None:
        if not self.twin.full:
            self.twin.new_row()

    @rule(w=WORKERS, pick=st.integers(0, 30), back_ns=st.integers(-2 * SLOT_NS, RING_NS + 20 * SLOT_NS))
    def window(self, w: int, pick: int, back_ns: int) -> None:
        self.twin.check_window(w, self.twin.rows[pick % len(self.twin.rows)], self.twin.now_ns - back_ns)

    @rule(snapshots=st.integers(0, 10))
    def latencies(self, snapshots: int) -> None:
        self.twin.check_latencies(snapshots * SMALL.snapshot_ns)

    @invariant()
    def totals(self) -> None:
        if hasattr(self, "twin"):
            self.twin.check_totals()


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(
    max_examples=1000 if FULL else 200,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
