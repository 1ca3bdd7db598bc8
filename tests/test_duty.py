"""Alerts through the whole of an engine with a clock turned by hand: counted, decided, committed, told once."""

from __future__ import annotations

import json

import pytest
from drive import advance

from otelslo import SLO, Engine, ManualClock
from otelslo.alerts import DEFAULT_NAMES
from otelslo.notice import Notice
from otelslo.oncall import shared
from otelslo.ring.geometry import Geometry
from otelslo.snapshot import Loss
from otelslo.window import SECOND_NS

GEOMETRY = Geometry(max_blocks=4, snapshots=4)
CALLS = {"kind": "call"}
NOWHERE = {"ops": ("webhook", {"url": "http://127.0.0.1:9/", "allow_http": True, "allow_private": True})}


@pytest.fixture
def leading(make_engine):
    def make(**objective):
        engine = make_engine(SLO("calls", match=CALLS, **objective), geometry=GEOMETRY)
        engine.channels = NOWHERE
        engine.runner.tick()
        assert engine.runner.leading
        return engine

    return make


def play(engine, seconds, good=0, bad=0):
    """So many of each in every second, and a tick of the leader every ten; when something was told, in seconds."""
    track, told = engine.track("job"), []
    for second in range(seconds):
        for outcome, times in (("good", good), ("bad", bad)):
            for _ in range(times):
                engine.record(track, outcome, 0)
        advance(engine, s=1)
        if (second + 1) % 10:
            continue
        before = len(notices(engine))
        engine.runner.tick()
        told += [(second + 1, n.event, n.alert) for n in notices(engine)[before:]]
    return told


def notices(engine):
    return [Notice.from_json(json.loads(parcel.payload)) for parcel in engine.runner.store.notes.parcels()]


def states(engine):
    return {key[2]: data["state"] for key, data in engine.runner.store.notes.alerts().items()}


def test_an_outage_pages_once_and_resolves(leading):
    """A full outage of a service at 99.9 % is above 14.4 after 51.84 s of an hour at the same traffic."""
    engine = leading(alerts={"guard": "off"})
    assert play(engine, 3600, good=1) == []
    told = play(engine, 300, bad=1)
    page = next(second for second, event, alert in told if alert == "page-fast")
    assert 51.84 <= page <= 51.84 + 10
    assert [alert for _, _, alert in told][-2:] == ["page-slow", "page-fast"]
    resolved = play(engine, 300, good=1)
    assert [(event, alert) for _, event, alert in resolved] == [("resolved", "page-fast")]
    keys = [notice.key for notice in notices(engine)]
    assert len(set(keys)) == len(keys)


def test_what_is_told_stays_with_whoever_leads_next(leading, make_engine):
    engine = leading(alerts={"guard": "off"})
    play(engine, 120, good=1)
    play(engine, 120, bad=1)
    told = notices(engine)
    assert "page-fast" in [notice.alert for notice in told]
    engine.runner.leader.step_down()
    engine.runner.tick()
    assert engine.runner.leading
    assert play(engine, 30, bad=1) == []
    assert notices(engine) == told
    assert states(engine)["page-fast"] == "firing"


def test_a_notice_says_what_it_rests_on(leading):
    engine = leading(
        alerts={"guard": "off"}, owner="payments", runbook_url="https://run/book", labels={"tier": "1"}, because="money"
    )
    play(engine, 60, good=3, bad=1)
    notice = next(notice for notice in notices(engine) if notice.alert == "page-fast")
    assert notice.labels == {
        "slo": "calls",
        "alert": "page-fast",
        "severity": "page",
        "owner": "payments",
        "tier": "1",
    }
    assert notice.annotations["runbook_url"] == "https://run/book"
    assert notice.annotations["because"] == "money"
    assert "Rests on" in notice.text
    assert "bad of" in notice.text
    assert notice.data["bad_long"] * 4 == notice.data["valid_long"] * 1
    assert notice.data["explanation"]["shares"]


def test_status_and_history_show_it(leading):
    engine = leading(alerts={"guard": "off"})
    play(engine, 60, bad=1)
    assert set(states(engine).items()) == {(name, "firing") for name in DEFAULT_NAMES}
    said = [entry.text for entry in engine.runner.store.journal(10, kind="alert")]
    assert "calls: burning the error budget 1,000 times too fast over 1 h (page-fast)" in said


def test_an_outage_uses_up_a_month_in_43_minutes(leading):
    """0.1 % of 30 days is 2,592 s; that it is used up is recorded, though a page keeps it from being told."""
    engine = leading(alerts={"guard": "off"})
    play(engine, 2580, bad=1)
    assert "budget-exhausted" not in states(engine)
    play(engine, 20, bad=1)
    assert states(engine)["budget-exhausted"] == "firing"
    said = [entry.text for entry in engine.runner.store.journal(1, kind="alert")]
    assert said == ["calls: the error budget is used up"]


def test_an_objective_that_is_removed_ends_its_alerts(leading):
    engine = leading(alerts={"guard": "off"})
    play(engine, 60, bad=1)
    engine.reload([SLO("others", match=CALLS)])
    play(engine, 10)
    assert states(engine) == {}
    told = {event: {n.alert for n in notices(engine) if n.event == event} for event in ("firing", "resolved")}
    assert told["resolved"] == told["firing"] == {"page-fast", "page-slow"}


def test_a_single_failure_of_few_does_not_page(leading):
    """One in ten an hour is 100 times the budget, and means nothing yet."""
    engine = leading(alerts={"exhausted": "off"})
    engine.record(engine.track("job"), "bad", 0)
    assert play(engine, 20) == []
    for _ in range(9):
        engine.record(engine.track("job"), "good", 0)
    assert play(engine, 20) == []
    for _ in range(13):
        engine.record(engine.track("job"), "bad", 0)
    assert [alert for _, _, alert in play(engine, 20)] == ["page-fast", "page-slow"]


def test_failures_of_one_cause_count_once():
    def loss(reason="5xx", count=1, trace="", worker="1", at_s=0):
        return Loss(at_s * SECOND_NS, 0, reason, count, "", 500, "", "", 0, trace, worker)

    assert shared([loss(), loss()]) == 0
    assert shared([loss(trace="a"), loss(trace="a", count=3), loss(trace="b")]) == 12
    assert shared([loss("crashed", 7), loss("crashed", 2, worker="2")]) == 42 + 2


def test_the_slices_of_an_objective_burn_slice_by_slice(leading):
    engine = leading(
        budgeting="timeslices",
        slice="1m",
        slice_target="50%",
        target="99%",
        alerts={"guard": "off", "exhausted": "off", "tiers": {"page-slow": "off"}},
    )
    assert play(engine, 600, good=1) == []
    told = play(engine, 180, bad=1)
    assert [alert for _, _, alert in told][-1] == "page-fast"


def test_channels_are_taken_over_with_the_configuration(tmp_path, monkeypatch, make_engine):
    """Those that are told from now on; what waits for one that is gone is dropped, and said."""
    file = tmp_path / "slo.yaml"
    file.write_text("channels: {first: log}\nslos: [{name: calls, match: {kind: call}, alerts: {guard: off}}]\n")
    monkeypatch.setenv("OTELSLO_CONFIG", str(file))
    engine = Engine(state_dir=tmp_path / "state", clock=ManualClock(), runner=False, geometry=GEOMETRY).start()
    engine.runner.tick()
    assert [one.name for one in engine.runner.leader.duty.channels()] == ["first"]
    file.write_text(file.read_text().replace("first", "second"))
    engine.reload()
    engine.runner.tick()
    assert [one.name for one in engine.runner.leader.duty.channels()] == ["second"]
    engine.close()


def test_empty_slices_are_no_excluded_events_and_parts_are_no_failures(leading):
    """A quiet hour hides nothing; and one bad slice of a thousand million parts is one failure."""
    engine = leading(budgeting="ratio_timeslices", slice="1m", target="99%", alerts={"no_data": "30m"})
    play(engine, 60 - engine.clock.ring_ns() // SECOND_NS % 60, good=1)
    assert play(engine, 1200) == []
    assert play(engine, 60, bad=1) == []
    assert play(engine, 60) == []
    assert play(engine, 30) == []
    assert [alert for _, _, alert in play(engine, 1800)] == ["no-data"]
