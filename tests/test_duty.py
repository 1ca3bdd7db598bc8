"""Alerts through the whole of an engine with a clock turned by hand: counted, decided, committed, told once."""

from __future__ import annotations

import json
from unittest.mock import Mock

import numpy as np
import pytest
from drive import advance

from otelslo import SLO, Engine, ManualClock, duty
from otelslo.exporters.sqlite import StoreUnavailable
from otelslo.notice import Notice
from otelslo.oncall import shared
from otelslo.ring.collect import Collector
from otelslo.ring.geometry import Geometry
from otelslo.rowkey import RowKey
from otelslo.snapshot import Loss
from otelslo.tiers import DEFAULT_NAMES
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
    assert "bad of" in notice.text.splitlines()[0]
    assert notice.whole_text.splitlines()[-2:] == ["Why it matters: money", "Runbook: https://run/book"]
    assert notice.data["bad_long"] * 4 == notice.data["valid_long"] * 1
    assert notice.data["explanation"]["shares"]


def test_a_notice_tells_the_class_of_what_was_lost(leading):
    """Where it says more than the reason does."""
    engine = leading(alerts={"guard": "off"})
    play(engine, 60, good=9)
    for error in (*19 * [MemoryError()], ConnectionError()):
        engine.track("job").open().close(error)
    play(engine, 60, good=9)
    (text,) = {notice.text for notice in notices(engine) if notice.alert == "page-fast"}
    assert "By reason: 100% exception" in text
    assert "By class: 95% oom, 5% infrastructure" in text


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
    def loss(reason="5xx", count=1, trace="", worker="1", at_s=0, latency_ns=0):
        return Loss(at_s * SECOND_NS, 0, reason, count, "", 500, "", "", latency_ns, trace, worker)

    assert shared([loss(), loss()]) == 0
    assert shared([loss(trace="a"), loss(trace="a", count=3), loss(trace="b")]) == 12
    assert shared([loss("crashed", 7), loss("crashed", 2, worker="2")]) == 42 + 2
    assert shared([loss(count=31, latency_ns=5), loss(latency_ns=5)]) == 32 * 31
    assert shared([loss(count=31), loss(count=3)]) == 0  # of `record_many`: events of their own


def test_a_batch_that_fails_is_one_cause(make_engine):
    """By item it is as many failures as it has items; nobody is woken by a single call."""
    slo = SLO("calls", indicator="inference", options={"per": "item"}, target="99%")
    for batches, pages in ((1, False), (40, True)):
        engine = make_engine(slo, geometry=GEOMETRY)
        engine.channels = NOWHERE
        engine.runner.tick()
        for error in [None] * 40 + [MemoryError()] * batches:
            call = engine.track("job").open()
            call.batch(1 if error is None else 64)
            call.close(error)
        play(engine, 60, good=1)
        assert any(notice.alert == "page-fast" for notice in notices(engine)) is pages


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


@pytest.mark.parametrize("empty", ["good", "bad", "ignore"])
def test_no_data_is_no_event_whatever_empty_slices_count_as(leading, empty):
    """Slices of nothing are no data either."""
    sliced = {"budgeting": "timeslices", "slice": "1m", "slice_target": "90%", "empty_slices": empty}
    engine = leading(**sliced, target="10%", alerts={"no_data": "30m", "tiers": "off", "exhausted": "off"})
    play(engine, 60, good=1)
    assert play(engine, 1700) == []
    assert [alert for _, _, alert in play(engine, 120)] == ["no-data"]


def test_an_end_has_the_labels_of_its_beginning(leading):
    """Alertmanager knows an alert by its labels: with others it would fire there for a year."""
    engine = leading(alerts={"guard": "off"}, owner="payments", labels={"tier": "1"})
    play(engine, 60, bad=1)
    engine.reload([SLO("calls", match=CALLS, alerts={"guard": "off"}, owner="orders")])
    play(engine, 400, good=3)
    engine.reload([SLO("others", match=CALLS)])
    play(engine, 10)
    labels = {n.event + " " + n.alert: n.labels for n in notices(engine)}
    assert labels["resolved page-fast"] == labels["firing page-fast"]
    assert labels["resolved page-slow"] == labels["firing page-slow"]
    assert labels["firing page-slow"]["owner"] == "payments"


def test_a_group_that_is_counted_anew_was_not_removed(make_engine):
    """Another threshold is another meaning of good: until its first event there is no row of the group."""
    slow = {
        "match": CALLS,
        "indicator": "latency",
        "group_by": ["version"],
        "max_groups": 5,
        "alerts": {"guard": "off"},
    }
    engine = make_engine(SLO("lat", threshold="200ms", **slow), geometry=GEOMETRY)
    engine.channels = NOWHERE
    for _ in range(60):
        engine.record(engine.track("job", version="1"), None, SECOND_NS)
        advance(engine, s=1)
        engine.runner.tick()
    told = notices(engine)
    assert {n.alert for n in told} >= {"page-fast"}
    engine.close()
    another = make_engine(
        SLO("lat", threshold="300ms", **slow), state_dir=engine.state_dir, clock=engine.clock, geometry=GEOMETRY
    )
    another.channels = NOWHERE
    another.runner.tick()
    assert another.runner.leading
    assert notices(another) == told


def test_one_objective_that_cannot_be_told_holds_up_neither_the_others_nor_the_counts(leading, monkeypatch):
    def broken(one, transition, losses):
        if one.definition.name == "calls":
            raise KeyError("long_ns")
        return announce(one, transition, losses)

    announce = duty.announce
    monkeypatch.setattr(duty, "announce", broken)
    engine = leading(alerts={"guard": "off"})
    engine.reload([SLO(name, match=CALLS, alerts={"guard": "off"}) for name in ("calls", "others")])
    play(engine, 60, bad=1)
    assert {n.slo for n in notices(engine)} == {"others"}
    assert engine.ring.reader.committed_ns == engine.clock.ring_ns()
    assert engine.faults()["internal"] > 0
    monkeypatch.setattr(duty, "announce", announce)
    play(engine, 10, bad=1)
    assert {n.slo for n in notices(engine)} == {"calls", "others"}


def test_a_database_that_is_busy_at_first_keeps_nobody_off_duty(leading, monkeypatch):
    engine = leading(alerts={"guard": "off"})
    engine.runner.leader.step_down()
    busy = Mock(side_effect=StoreUnavailable("database is locked"))
    with monkeypatch.context() as patched:
        patched.setattr(duty.Duty, "_read_marks", busy)
        engine.runner.tick()
        assert (engine.runner.leading, engine.runner.leader.duty) == (True, None)
    play(engine, 60, bad=1)
    assert "page-fast" in states(engine)


def minutes(engine, number, good=0, excluded=0):
    """As `play`, of so many of each in every minute, with a tick at its end; when something was told, in minutes."""
    track, told = engine.track("job"), []
    outcomes = np.repeat(np.array([0, 2], dtype=np.int8), (good, excluded))
    for minute in range(number):
        engine.record_many(track, outcomes, np.zeros(len(outcomes), dtype=np.int64))
        advance(engine, s=60)
        before = len(notices(engine))
        engine.runner.tick()
        told += [(minute + 1, n.event, n.alert) for n in notices(engine)[before:]]
    return told


WEEKLY = {"start": "2023-11-15T00:00Z", "duration": "2h", "rrule": "FREQ=WEEKLY"}
A_WEEKS = 50_000  # events, beside which a few hours' are few
UNTIL_IT_BEGINS = 107  # minutes: the clock starts at 22:13:20, and this is in its last one


def test_what_is_excluded_as_declared_opens_no_ticket(leading):
    """Events go on through two hours of maintenance; an hour after it the alert is as ever."""
    engine = leading(maintenance=[WEEKLY])
    minutes(engine, 1, good=A_WEEKS)
    assert minutes(engine, UNTIL_IT_BEGINS - 1 + 120 + 70, good=20) == []
    excluded = engine.status()[0].counts.excluded
    assert 118 * 20 <= excluded <= 122 * 20
    told = minutes(engine, 40, excluded=20)
    assert [(event, alert) for _, event, alert in told] == [("firing", "exclusion-share")]


def test_that_nothing_comes_in_maintenance_is_no_news(leading):
    """It is once the alert's window has left the maintenance behind, and ends with the next event."""
    engine = leading(maintenance=[WEEKLY], alerts={"no_data": "1h"})
    assert minutes(engine, UNTIL_IT_BEGINS, good=1) == []
    assert minutes(engine, 120) == []
    ((minute, event, alert),) = minutes(engine, 70)
    assert (event, alert) == ("firing", "no-data")
    assert 60 <= minute <= 66
    assert minutes(engine, 1, good=1) == [(1, "resolved", "no-data")]


def test_an_alert_that_fires_goes_on_through_maintenance(leading):
    """Whether what is excluded is as usual again, nobody knows by then."""
    engine = leading(maintenance=[WEEKLY], alerts={"no_data": "30m"})
    minutes(engine, 1, good=A_WEEKS)
    minutes(engine, 39, good=20)
    assert [alert for _, _, alert in minutes(engine, 67, excluded=20)] == ["exclusion-share", "no-data"]
    assert minutes(engine, 120, good=20) == []
    ended = {alert: minute for minute, event, alert in minutes(engine, 70, good=200) if event == "resolved"}
    assert ended["no-data"] <= 2
    assert 60 <= ended["exclusion-share"] <= 66


def test_that_nothing_came_in_what_was_excluded_since_is_no_news(leading):
    engine = leading(alerts={"no_data": "1h"})
    minutes(engine, 10, good=1)
    assert minutes(engine, 50) == []
    wall_ns = engine.clock.wall_ns()
    engine.runner.store.notes.exclude("calls", wall_ns - 50 * 60 * SECOND_NS, wall_ns, "an outage", wall_ns)
    ((minute, event, alert),) = minutes(engine, 75)
    assert (event, alert) == ("firing", "no-data")
    assert 60 <= minute <= 70


def test_losses_of_many_are_read_at_a_time(leading):
    """As many as are asked for one by one."""
    engine = leading()
    play(engine, 30, bad=1)
    snapshot = Collector(engine.ring, engine.runner.store).collect(engine.clock.ring_ns(), engine.definitions_json)
    key = next(key for key in snapshot.row_keys if RowKey.parse(key).slo == "calls")
    kept = duty._Losses(engine.runner.store, snapshot)
    first = kept.of(key, 20 * SECOND_NS)
    assert sum(one.loss.count for one in first) == 20
    for number in range(5):
        assert kept.of(f"another {number}", SECOND_NS) == []
    assert kept.of(key, 20 * SECOND_NS) == first
