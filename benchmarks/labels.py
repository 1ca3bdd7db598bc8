"""What logging a prediction costs a request, how long the leader takes to count ten thousand late labels, and what that
does to requests of the same process meanwhile."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from . import ours
from .harness import Plan
from .results import Results

LABELS = 10_000
RETENTION_NS = 35 * 86_400 * 10**9
NAMES = ("log_prediction_us", "labels_10000_s", "labels_request_p99_ms")
_PAUSE_S = 0.0025


def run(plan: Plan, results: Results) -> None:
    """Measure all of NAMES."""
    from otelslo import SLO, Engine, ManualClock
    from otelslo.applying import Applying
    from otelslo.exporters.sqlite import Store

    logged, counted, meanwhile, idle = [], [], [], []
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
            with Requests() as quiet:
                time.sleep(1)
            idle.append(quiet.p99_ms())
            for number in range(LABELS):
                engine.log_label("fraud", id=number, truth=number % 2)
            with Requests() as busy:
                while applying.turn(slos, clock.wall_ns()):
                    pass
            meanwhile.append(busy.p99_ms())
            engine.labels.finish()
            store.close()
    results.figure("log_prediction_us", logged, "whole call, files rotated and the disk's cache included")
    results.figure("labels_10000_s", counted, "two objectives, labels five days late, all transactions durable")
    note = f"a loop of 0.1 ms of work at up to 400/s in the same process; without labels {min(idle):.2f} ms"
    results.figure("labels_request_p99_ms", meanwhile, note)


class Requests:
    """A thread that answers small requests as long as it is entered, and how long each took."""

    def __init__(self) -> None:
        self._took_ns: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Requests:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._over.is_set():
            begun_ns = time.perf_counter_ns()
            sum(range(5_000))
            self._took_ns.append(time.perf_counter_ns() - begun_ns)
            time.sleep(_PAUSE_S)

    def p99_ms(self) -> float:
        return sorted(self._took_ns)[len(self._took_ns) * 99 // 100] / 1e6
