"""A promised rate as others are told it: from the history, after a rebuild, in exports, and by alerts."""

from __future__ import annotations

import pytest
from drive import advance
from simulated import Simulation

from otelslo import SLO, Engine, ManualClock
from otelslo.cli.history import SavedRows
from otelslo.counts import Counts
from otelslo.evaluate import statuses
from otelslo.exporters.sqlite_reader import Reader as History
from otelslo.openmetrics import render
from otelslo.ring import state
from otelslo.ring.geometry import Geometry
from otelslo.rowkey import SHED
from otelslo.window import MINUTE_NS, SECOND_NS

GEOMETRY = Geometry(max_blocks=4, fine_slots=64, coarse_slots=400, snapshots=4, log_records=64)
LOAD = SLO(
    "load",
    indicator="throughput",
    threshold="200ms",
    options={"rate": "10/min"},
    target="99%",
    window="2h",
    match={"kind": "call"},
)


def play(engine: Engine) -> None:
    """Minutes that are good, shed, idle, slow, and good all the same; committed each minute."""
    track = engine.track("job")
    for good, slow, shed in ((12, 0, 0), (9, 0, 1), (3, 0, 0), (3, 1, 0), (10, 0, 30), (20, 0, 0)):
        for outcome, latency_ns, times in (("good", 0, good), ("good", SECOND_NS, slow), ("shed", 0, shed)):
            for _ in range(times):
                engine.record(track, outcome, latency_ns)
        advance(engine, ns=MINUTE_NS)
        engine.runner.tick()


def assert_told(status) -> None:
    assert status.counts == Counts(3, 2, 1)
    assert (status.load.peak, status.load.held) == (40, 20)


def test_the_history_alone_and_a_rebuilt_ring_tell_the_same(tmp_path):
    clock = ManualClock(1_700_000_000 * SECOND_NS // MINUTE_NS * MINUTE_NS)
    arguments = {"state_dir": tmp_path / "state", "clock": clock, "runner": False, "geometry": GEOMETRY}
    with Engine([LOAD], **arguments) as engine:
        play(engine)
        assert_told(engine.status()[0])
    saved = History(tmp_path / "state" / state.DATABASE_FILE).load()
    (told,) = statuses([LOAD.as_definition], SavedRows(saved), saved.at_ns)
    assert_told(told)
    (tmp_path / "state" / state.RING_FILE).unlink()
    with Engine([LOAD], **arguments) as rebuilt:
        assert_told(rebuilt.status()[0])


def test_no_export_knows_the_row_beside(make_engine):
    """What was shed is told once, as a bad event by its reason."""
    engine = make_engine(LOAD, geometry=GEOMETRY)
    play(engine)
    advance(engine, s=1)
    page = render(engine)[1].decode()
    assert SHED not in page
    events = [line for line in page.splitlines() if line.startswith("slo_events_total{") and '"shed"' in line]
    assert len(events) == 1
    assert events[0].endswith(" 31")


@pytest.mark.parametrize("shed", [0, 1])
def test_alerts_go_slice_by_slice(make_engine, shed):
    """Minutes that refuse one request of a few: a page. Without it they are idle; and idle minutes say nothing of
    whether it is over, as one at the promised rate does."""
    slo = SLO("load", indicator="throughput", threshold="1s", options={"rate": "100/min"}, match={"kind": "call"})
    simulation = Simulation(make_engine(slo, geometry=GEOMETRY))
    for minute in range(150):
        simulation.record(good=5)
        for _ in range(shed if minute >= 60 else 0):
            simulation.engine.record(simulation.track, "shed", 0)
        simulation.wait(s=60)
        simulation.turn()
    assert bool(simulation.fired) is bool(shed)
    assert ("page-fast" in simulation.fired) is bool(shed)
    for good, told in ((1, ["firing"]), (100, ["firing", "resolved"])):
        for _ in range(90):
            simulation.record(good=good)
            simulation.wait(s=60)
            simulation.turn()
        assert [event for _, event, name in simulation.told if name == "page-fast"] == told * shed
