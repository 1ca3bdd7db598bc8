"""Fixtures shared by all tests: engines with a clock that is turned by hand and no background thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from otelslo import SLO, Engine
from otelslo.clock import ManualClock
from otelslo.ring.geometry import Geometry

MakeEngine = Callable[..., Engine]
SMALL = Geometry(max_blocks=8, fine_slots=64, fine_per_coarse=3600, coarse_slots=100, snapshots=8, log_records=64)


@pytest.fixture
def make_engine(tmp_path) -> Iterator[MakeEngine]:
    """`make_engine(*slos, **arguments)`: a started engine in a directory of its own, closed at the test's end."""
    made: list[Engine] = []

    def make(*slos: SLO, **arguments: object) -> Engine:
        arguments = {
            "state_dir": tmp_path / f"state{len(made)}",
            "clock": ManualClock(),
            "runner": False,
            "geometry": SMALL,
        } | arguments
        made.append(Engine(slos, **arguments))
        return made[-1].start()

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    """Availability, and latency within 200 ms."""
    return make_engine(SLO("availability"), SLO("latency", indicator="latency", threshold="200ms", target="95%"))
