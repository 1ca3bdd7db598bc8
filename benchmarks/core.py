"""The core without an edge: batches, counting a window, and the bytes that a row takes."""

from __future__ import annotations

from . import ours
from .harness import Contender, Plan, Unavailable, expect, interleave
from .results import Results

NAMES = ("record_many_ns", "count_30d_us", "row_bytes", "latency_row_bytes")
BATCH = 10_000
STEP_NS = 10 * 10**9
SLOT_EVENTS = 30  # one coarse slot of 5 min at an event each 10 s: the blur that a long window may have


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    _record_many(plan, results)
    try:
        _count(plan, results)
    except Unavailable as reason:
        results.skip("count_30d_us", str(reason))


def _record_many(plan: Plan, results: Results) -> None:
    import numpy as np

    random = np.random.default_rng(1)
    outcomes = random.choice(np.array([0, 1, 2], dtype=np.int8), BATCH, p=[0.97, 0.02, 0.01])
    latencies_ns = (random.lognormal(mean=-4, sigma=1, size=BATCH) * 1e9).astype(np.int64)
    objectives = ours.slos(2, kind="call")
    with ours.engine(objectives) as engine:
        names = {
            "it": engine,
            "track": engine.track("recommender"),
            "outcomes": outcomes,
            "latencies_ns": latencies_ns,
        }
        batches = Contender("batches", "it.record_many(track, outcomes, latencies_ns)", names, events_per_call=BATCH)
        samples = interleave([batches], plan)
        valid_events = int((outcomes != 2).sum()) * batches.calls
        for counted in ours.valid(engine, objectives):
            expect("engine.record_many", counted, valid_events)
        results.figure("row_bytes", [engine.ring.row_bytes])
        results.figure("latency_row_bytes", [engine.ring.latency_row_bytes])
    note = "per event of a batch of 10,000; 2 SLOs and the histogram; nothing subtracted"
    results.figure("record_many_ns", samples["batches"], note)


def _count(plan: Plan, results: Results) -> None:
    clock = ours.manual_clock()
    objectives = ours.slos(1, kind="call")
    with ours.engine(objectives, clock=clock) as engine:
        track = engine.track("recommender")
        steps = ours.WINDOW_NS // STEP_NS
        for _ in range(steps):
            engine.record(track, "good", 12_000_000)
            clock.advance(ns=STEP_NS)
        counted = ours.valid(engine, objectives)[0]
        expect("engine.count", counted, steps, slack=SLOT_EVENTS + 1)
        names = {"it": engine, "name": objectives[0].name, "window_ns": ours.WINDOW_NS}
        samples = interleave([Contender("count", "it.count(name, window_ns)", names)], plan)
    note = "engine.count over 30 d of an event each 10 s; nothing subtracted"
    results.figure("count_30d_us", [ns / 1000 for ns in samples["count"]], note)
