"""Threads that switch every microsecond, and signal handlers that raise between any two bytecodes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from conftest import MakeEngine

from otelslo import SLO
from otelslo.clock import SystemClock

from .small_rings import FULL, Worker

EVENTS = 300_000 if FULL else 30_000
THREADS = 4
DAY_NS = 86_400 * 10**9


@pytest.fixture
def hasty() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_four_threads_record(make_engine: MakeEngine) -> None:
    slos = [SLO("availability", match={"kind": "call"}), SLO("other", match={"kind": "call"})]
    engine = make_engine(*slos, clock=SystemClock())
    track = engine.track("call")

    def run(outcome: str) -> None:
        for i in range(EVENTS):
            engine.record(track, outcome, i)

    threads = [threading.Thread(target=run, args=(outcome,)) for outcome in ("good", "bad", "excluded", "good")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert engine.count("availability", DAY_NS).total <= THREADS * EVENTS
    for name in ("availability", "other"):
        counts = engine.count(name, DAY_NS)
        assert (counts.good, counts.bad, counts.excluded) == (2 * EVENTS, EVENTS, EVENTS)
    assert engine.faults() == {}


@pytest.mark.usefixtures("hasty")
def test_four_threads_begin_and_end(tmp_path: Path) -> None:
    worker = Worker(tmp_path, SystemClock())

    def run() -> None:
        for i in range(EVENTS):
            token = worker.begin()
            worker.end(token, worker.good if i % 2 else worker.bad)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = worker.ring.reader
    assert (reader.begun(), reader.in_flight()) == (THREADS * EVENTS, 0)
    assert [reader.counts(row).valid for row in worker.rows] == [THREADS * EVENTS] * 3


class Interrupted(Exception):
    """What the signal handler raises."""


class Alarm:
    """Raises `Interrupted` in the main thread, as soon as it is armed again, up to 5,000 times a second."""

    def __init__(self) -> None:
        self.armed = False

    def __enter__(self) -> Alarm:
        self._before = signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        return self

    def __exit__(self, *error: object) -> None:
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            raise Interrupted


class Request:
    """A begin and an end as an edge makes them: the end in `finally`, the flag cleared just before the call."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.token = 0

    def run(self) -> None:
        try:
            self.token = self.worker.begin()
            sum(range(20))
        finally:
            self.end()

    def end(self) -> None:
        token, self.token = self.token, 0
        if token:
            self.worker.end(token, self.worker.good)


def test_signals_that_raise_around_begin_and_end(tmp_path: Path) -> None:
    worker = Worker(tmp_path, SystemClock())
    interrupted = run = 0
    with Alarm() as alarm:
        while interrupted < (20_000 if FULL else 1_000):
            try:
                alarm.armed = True
                while True:
                    run += 1
                    Request(worker).run()
            except Interrupted:
                interrupted += 1
    reader = worker.ring.reader
    begun, lost = reader.begun(), reader.in_flight()
    assert begun - lost == reader.counts(worker.rows[0]).valid  # nothing ended twice
    assert lost <= interrupted
    worker.ring.blocks.detach()
    worker.attach()
    for row in worker.rows:
        cells = reader.cells(row)
        assert (sum(cells), cells[2]) == (begun, lost)
    assert reader.in_flight() == 0
    print(f"{run} requests, {interrupted} interrupted, {lost} never ended")
