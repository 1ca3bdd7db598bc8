"""What logging a prediction costs a request, and how long the leader takes to count ten thousand late labels."""

from __future__ import annotations

import time
from pathlib import Path

from . import ours
from .harness import Plan
from .results import Results

LABELS = 10_000
RETENTION_NS = 35 * 86_400 * 10**9
NAMES = ("log_prediction_us", "labels_10000_s")


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    from otelslo import SLO, Engine, ManualClock
    from otelslo.applying import Applying
    from otelslo.exporters.sqlite import Store

    logged, counted = [], []
    slos = [SLO("right", indicator="accuracy"), SLO("precise", indicator="precision", options={"positive": 1})]
    for _ in range(plan.process_runs):
        with ours.state_dir() as path:
            clock = ManualClock()
            engine = Engine(slos, state_dir=path, clock=clock, limits=[])
            begun_ns = time.perf_counter_ns()
            for number in range(LABELS):
                engine.log_prediction("fraud", id=number, output=number % 2, score=0.93, version="2026-11-01")
            logged.append((time.perf_counter_ns() - begun_ns) / LABELS / 1e3)
            store = Store(Path(path) / "otelslo.db")
            store.open(clock.wall_ns())
            applying = Applying(Path(path), store, engine.fault, lambda: RETENTION_NS)
            while applying.turn(slos, clock.wall_ns()):
                pass
            clock.advance(s=5 * 86_400)
            for number in range(LABELS):
                engine.log_label("fraud", id=number, truth=number % 3 % 2)
            begun_ns, taken = time.perf_counter_ns(), 0
            while took := applying.turn(slos, clock.wall_ns()):
                taken += took
            counted.append((time.perf_counter_ns() - begun_ns) / 1e9)
            assert taken == LABELS
            engine.labels.finish()
            store.close()
    results.figure("log_prediction_us", logged, "whole call, files rotated and the disk's cache included")
    results.figure("labels_10000_s", counted, "two objectives, labels five days late, all transactions durable")
