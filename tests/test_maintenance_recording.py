"""Planned maintenance as it is recorded: exact to the event at every edge, whenever housekeeping comes."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from datetime import datetime

import drive_wsgi
import numpy as np
import pytest
from cli.invoke import invoke
from drive import LAST, START, Request, advance, cells, groups, http_scope, pause, run, websocket_scope

import otelslo
from otelslo import SLO, DefinitionError
from otelslo.asgi import SLOMiddleware
from otelslo.clock import ManualClock
from otelslo.config import load
from otelslo.wsgi import SLOMiddleware as WSGIMiddleware

SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
START_NS = 1_700_000_000 * SECOND_NS  # where manual clocks begin: 2023-11-14 22:13:20 UTC
OPENS_NS, CLOSES_NS = START_NS + 3600 * SECOND_NS, START_NS + 7200 * SECOND_NS
WINDOW = {"start": "2023-11-14T23:13:20Z", "end": "2023-11-15T00:13:20Z"}
PLANNED = {"maintenance": [WINDOW]}
ROOM = {"rules": {"4xx": "bad"}}  # one reason less to exclude: a cell is free for maintenance


def turn_to(engine, wall_ns: int) -> None:
    """Turn the clock, and nothing else."""
    advance(engine, ns=wall_ns - engine.clock.wall_ns())


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_NS


# ── every edge ─────────────────────────────────────────────────────────────────────────────────────────────────────
async def web(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send(START)
    await send(LAST)


def asgi(engine):
    edge = SLOMiddleware(web, engine=engine)
    return "http", lambda: run(edge)


def websocket(engine):
    edge = SLOMiddleware(web, engine=engine)

    def happen():
        scope = websocket_scope()
        del scope["method"]  # which no server sets
        run(edge, scope, ({"type": "websocket.connect"},))

    return "websocket", happen


def wsgi(engine):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"."]

    edge = WSGIMiddleware(app, engine=engine)
    return "http", lambda: drive_wsgi.run(edge)


def decorated(engine):
    return "call", otelslo.track("rerank", engine=engine)(lambda: None)


def coroutine(engine):
    @otelslo.track("rerank", engine=engine)
    async def work():
        return None

    return "call", lambda: asyncio.run(work())


def generator(engine):
    @otelslo.track("rerank", engine=engine)
    def work():
        yield 1

    return "call", lambda: list(work())


def block(engine):
    def work():
        with otelslo.track("rerank", engine=engine):
            pass

    return "call", work


def opened(engine):
    track = engine.track("rerank")
    return "call", lambda: track.open().close()


def recorded(engine):
    track = engine.track("rerank")
    return "call", lambda: engine.record(track, None, 10)


def recorded_good(engine):
    track = engine.track("rerank")
    return "call", lambda: engine.record(track, "good", 10)


def batched(engine):
    track = engine.track("rerank")
    return "call", lambda: engine.record_many(track, np.zeros(1, np.int8), np.full(1, 10))


EDGES = (asgi, websocket, wsgi, decorated, coroutine, generator, block, opened, recorded, recorded_good, batched)


def objectives(windows, **more) -> list[SLO]:
    return [
        SLO("http", maintenance=windows, **more),
        SLO("websocket", indicator="websocket", maintenance=windows),
        SLO("call", match={"kind": "call"}, maintenance=windows),
    ]


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.__name__)
@pytest.mark.parametrize("early_s", [59, 1, 0], ids=["housekeeping a minute before", "a second before", "just then"])
def test_exact_to_the_nanosecond(make_engine, edge, early_s):
    engine = make_engine(*objectives([WINDOW]))
    kind, happen = edge(engine)
    for _ in range(2):  # the second by what is remembered
        happen()
    counted = Counter(good=2)
    outcomes = ("good", "excluded maintenance", "good")
    for change_ns, before, after in zip((OPENS_NS, CLOSES_NS), outcomes, outcomes[1:], strict=False):
        turn_to(engine, change_ns - early_s * SECOND_NS - 2)
        engine.housekeeping()
        for at_ns, outcome in ((change_ns - 1, before), (change_ns, after), (change_ns + 1, after)):
            turn_to(engine, at_ns)
            happen()
            counted[outcome] += 1
        turn_to(engine, change_ns + MINUTE_NS)
        engine.housekeeping()
        for _ in range(2):
            happen()
            counted[after] += 1
        assert cells(engine, kind) == counted
    assert engine.faults() == {}


def test_other_objectives_do_not_notice(make_engine):
    engine = make_engine(SLO("here", maintenance=[WINDOW]), SLO("elsewhere"))
    edge = SLOMiddleware(web, engine=engine)
    turn_to(engine, OPENS_NS)
    engine.housekeeping()
    run(edge)
    assert (cells(engine, "here"), cells(engine, "elsewhere")) == ({"excluded maintenance": 1}, {"good": 1})


def test_an_event_belongs_where_it_ends(make_engine):
    async def slow(scope, receive, send):
        await pause()
        await send(START)
        await send(LAST)

    engine = make_engine(SLO("a", maintenance=[WINDOW]))
    edge = SLOMiddleware(slow, engine=engine)
    for begin_ns, end_ns in ((OPENS_NS - 5, OPENS_NS), (CLOSES_NS - 5, CLOSES_NS), (CLOSES_NS + 1, CLOSES_NS + 9)):
        turn_to(engine, begin_ns)
        engine.housekeeping()
        request = Request(edge, http_scope())
        request.step()
        turn_to(engine, end_ns)
        request.finish()
    assert cells(engine, "a") == {"excluded maintenance": 1, "good": 2}


def test_whenever_housekeeping_comes(make_engine):
    """A thousand events at random among many windows, housekeeping at random but never a minute apart."""
    chance = random.Random(4)
    windows = [
        {"start": "2023-11-14T22:20Z", "duration": "7m", "rrule": "FREQ=DAILY;BYHOUR=22,23;BYMINUTE=20,40,55"},
        {"start": "2023-11-14T22:57Z", "duration": "13m"},
    ]
    slo = SLO("http", maintenance=windows)
    engine = make_engine(slo)
    edge = SLOMiddleware(web, engine=engine)
    counted, tidied_ns = Counter(), START_NS
    for _ in range(1000):
        turn_to(engine, engine.clock.wall_ns() + chance.choice([1, SECOND_NS, chance.randrange(25 * SECOND_NS)]))
        now_ns = engine.clock.wall_ns()
        if chance.random() < 0.3 or now_ns - tidied_ns > 30 * SECOND_NS:
            engine.housekeeping()
            tidied_ns = now_ns
        run(edge)
        counted["excluded maintenance" if slo.planned.active(now_ns) else "good"] += 1
    assert cells(engine, "http") == counted
    assert min(counted.values()) > 100


def test_without_a_cell_of_its_own_it_is_excluded_all_the_same(make_engine):
    """A latency objective has five other reasons to exclude, and a row five cells for them: none loses its cell."""
    slow, slower = (
        SLO(name, indicator="latency", threshold="1s", **more) for name, more in (("a", PLANNED), ("b", {}))
    )
    assert slow.reason_cells == slower.reason_cells
    assert {"health_check", "shed"} <= set(slow.reason_cells)
    engine = make_engine(slow)
    turn_to(engine, OPENS_NS)
    engine.housekeeping()
    run(SLOMiddleware(web, engine=engine))
    assert cells(engine, "a") == {"excluded other": 1}


# ── who decides ────────────────────────────────────────────────────────────────────────────────────────────────────
def failing(event):
    raise LookupError(event.route)


@pytest.mark.parametrize("more", [{}, {"valid": lambda event: False}, {"valid": failing}, {"good": failing}])
@pytest.mark.parametrize("path", ["/x", "/healthz"])
@pytest.mark.parametrize("says", ["nothing", "good", "bad", "excluded"])
def test_nobody_overrules_it(make_engine, more, path, says):
    async def app(scope, receive, send):
        if says != "nothing":
            getattr(scope["otelslo"], says)()
        await web(scope, receive, send)

    engine = make_engine(SLO("a", maintenance=[WINDOW], **ROOM, **more))
    turn_to(engine, OPENS_NS)
    engine.housekeeping()
    run(SLOMiddleware(app, engine=engine, routes=["/x", "/healthz"]), http_scope(path))
    assert cells(engine, "a") == {"excluded maintenance": 1}
    assert engine.faults() == {}


def test_where_still_says_whose_events_they_are(make_engine):
    engine = make_engine(
        SLO("none", match={"where": lambda event: False}, maintenance=[WINDOW]),
        SLO("fails", match={"where": failing}, maintenance=[WINDOW]),
    )
    turn_to(engine, OPENS_NS)
    engine.housekeeping()
    run(SLOMiddleware(web, engine=engine))
    assert (cells(engine, "none"), cells(engine, "fails")) == ({}, {"excluded maintenance": 1})
    assert engine.faults() == {"user_code": 1}


@pytest.mark.parametrize("ends", ["exception", "slow", "no response"])
def test_however_it_ends(make_engine, ends):
    async def app(scope, receive, send):
        if ends == "exception":
            raise RuntimeError
        if ends == "slow":
            advance(engine, s=5)
            await web(scope, receive, send)

    engine = make_engine(SLO("a", indicator="latency", threshold="1s", maintenance=[WINDOW], **ROOM))
    edge = SLOMiddleware(app, engine=engine)
    for at_ns in (OPENS_NS - 30 * MINUTE_NS, OPENS_NS, OPENS_NS + 5 * MINUTE_NS):
        turn_to(engine, at_ns)
        engine.housekeeping()
        run(edge)
    assert cells(engine, "a")["excluded maintenance"] == 2
    assert sum(cells(engine, "a").values()) == 3


def test_groups_have_each_their_own(make_engine):
    engine = make_engine(SLO("a", group_by="route", maintenance=[WINDOW]))
    edge = SLOMiddleware(web, engine=engine, routes=["/x", "/y"])
    run(edge, http_scope("/x"))
    turn_to(engine, OPENS_NS)
    engine.housekeeping()
    run(edge, http_scope("/x"))
    run(edge, http_scope("/y"))
    assert groups(engine, "a") == {
        "route=/x": {"good": 1, "excluded maintenance": 1},
        "route=/y": {"excluded maintenance": 1},
    }


# ── when ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("zone", "rule", "opens"),
    [
        ("America/New_York", "FREQ=WEEKLY;BYDAY=SU", ["2024-03-03T07:00Z", "2024-03-10T07:00Z", "2024-03-17T06:00Z"]),
        ("America/New_York", "FREQ=WEEKLY;BYDAY=SU", ["2024-10-27T06:00Z", "2024-11-03T07:00Z", "2024-11-10T07:00Z"]),
        ("Europe/Paris", "FREQ=DAILY", ["2024-03-30T01:00Z", "2024-03-31T01:00Z", "2024-04-01T00:00Z"]),
        ("Europe/Paris", "FREQ=DAILY", ["2024-10-26T00:00Z", "2024-10-27T00:00Z", "2024-10-28T01:00Z"]),
    ],
)
def test_recurring_across_the_changes_of_the_clocks(make_engine, zone, rule, opens):
    window = {"start": "2023-12-01 02:00", "duration": "45m", "rrule": rule, "timezone": zone}
    engine = make_engine(SLO("a", maintenance=[window]))
    edge = SLOMiddleware(web, engine=engine)
    for opens_ns in map(ns, opens):
        for change_ns in (opens_ns, opens_ns + 45 * MINUTE_NS):
            turn_to(engine, change_ns - 1)
            engine.housekeeping()
            run(edge)
            turn_to(engine, change_ns)
            run(edge)
    assert cells(engine, "a") == {"good": 6, "excluded maintenance": 6}


def test_a_step_of_the_wall_clock_moves_the_windows_with_it(make_engine):
    engine = make_engine(SLO("a", maintenance=[WINDOW]))
    edge = SLOMiddleware(web, engine=engine)
    for step_s in (0, 4000, -4000, 4000, 3200):
        engine.clock.step_wall(s=step_s)
        engine.housekeeping()
        run(edge)
        run(edge)
    assert cells(engine, "a") == {"good": 6, "excluded maintenance": 4}


def test_a_time_that_passed_while_nothing_ran(make_engine):
    """Neither the start after a close nor an attach waits for housekeeping."""
    engine = make_engine(SLO("a", maintenance=[WINDOW]))
    edge = SLOMiddleware(web, engine=engine)
    run(edge)
    engine.close()
    turn_to(engine, OPENS_NS + MINUTE_NS)
    engine.start()
    run(edge)
    engine.ring.blocks.detach()
    turn_to(engine, CLOSES_NS + MINUTE_NS)
    run(edge)
    assert cells(engine, "a") == {"good": 2, "excluded maintenance": 1}


def test_between_changes_plans_are_remembered(make_engine):
    engine = make_engine(*objectives([WINDOW]))
    edge, track = SLOMiddleware(web, engine=engine), engine.track("rerank")
    judged = []

    def judging(event, judge=engine.judge._judge):
        judged.append(event)
        return judge(event)

    engine.judge._judge = judging
    for at_ns in (START_NS, OPENS_NS + 30 * MINUTE_NS, CLOSES_NS + 30 * MINUTE_NS):
        turn_to(engine, at_ns)
        for _ in range(5):
            engine.housekeeping()
        run(edge)
        engine.record(track, None, 10)
        judged.clear()
        for _ in range(9):
            run(edge)
            engine.record(track, None, 10)
            engine.housekeeping()
        assert judged == []
        assert not engine.dynamic
    assert cells(engine, "http") == {"good": 20, "excluded maintenance": 10}


def test_what_was_judged_before_and_is_remembered_late_is_forgotten_in_time(make_engine):
    engine = make_engine(SLO("a", maintenance=[WINDOW]))
    edge = SLOMiddleware(web, engine=engine)
    run(edge)
    site = edge._sites.find("GET", "/x")
    late = dict(site.plans)
    turn_to(engine, OPENS_NS - 50 * SECOND_NS)
    engine.housekeeping()
    site.plans.update(late)
    turn_to(engine, OPENS_NS - 49 * SECOND_NS)
    engine.housekeeping()
    turn_to(engine, OPENS_NS)
    run(edge)
    assert cells(engine, "a") == {"good": 1, "excluded maintenance": 1}


def test_the_background_thread_turns(tmp_path):
    """With the machine's own clock and no hand on it: windows that lie around now."""
    with otelslo.Engine(
        [SLO("a", maintenance=[{"start": "2020-01-01T00:00Z", "end": "2199-01-01T00:00Z"}]), SLO("b")],
        state_dir=tmp_path / "s",
    ) as engine:
        run(SLOMiddleware(web, engine=engine))
        assert (cells(engine, "a"), cells(engine, "b")) == ({"excluded maintenance": 1}, {"good": 1})


# ── in configurations ──────────────────────────────────────────────────────────────────────────────────────────────
def test_a_reload_adds_and_removes_windows_and_keeps_the_history(make_engine):
    engine = make_engine(SLO("a"))
    edge, meaning = SLOMiddleware(web, engine=engine), engine.slos[0].meaning
    run(edge)
    turn_to(engine, OPENS_NS)
    for windows in ([WINDOW], [], [WINDOW]):
        told = engine.reload([SLO("a", maintenance=windows)])
        assert told == "1 objectives, a changed"
        run(edge)
        run(edge)
    assert engine.slos[0].meaning == meaning
    assert cells(engine, "a") == {"good": 3, "excluded maintenance": 4}
    assert engine.status()[0].counts.good == 3


def test_call_sites_past_the_number_that_is_remembered(make_engine, monkeypatch):
    monkeypatch.setattr("otelslo.calls._MOST_SITES", 0)
    engine = make_engine(*objectives([WINDOW]))
    track = engine.track("rerank")
    for at_ns in (START_NS, OPENS_NS, CLOSES_NS):
        turn_to(engine, at_ns)
        engine.housekeeping()
        engine.record(track, None, 10)
    assert cells(engine, "call") == {"good": 2, "excluded maintenance": 1}


YAML = """\
maintenance:
  - {{start: "2023-11-14 23:13:20", end: "2023-11-15 00:13:20", timezone: {zone}}}
slos:
  - name: a
  - name: b
    maintenance:
      - {{start: "2099-06-07 02:00", duration: {duration}, rrule: "FREQ=WEEKLY;BYDAY=SU", timezone: UTC, name: deploy}}
"""


@pytest.fixture
def written(tmp_path):
    def write(zone="UTC", duration="2h"):
        path = tmp_path / "slo.yaml"
        path.write_text(YAML.format(zone=zone, duration=duration))
        return path

    return write


def test_a_file_s_windows_are_those_of_every_objective(written):
    a, b = load(written()).slos
    assert [len(slo.planned.entries) for slo in (a, b)] == [1, 2]
    assert all(slo.planned.active(OPENS_NS) and not slo.planned.active(OPENS_NS - 1) for slo in (a, b))
    assert load(written()).slos[0].meaning == SLO("a").meaning


@pytest.mark.parametrize(
    ("wrong", "place"),
    [({"zone": "Mars/Base"}, "slo.yaml:2:74"), ({"duration": "200h"}, "slo.yaml:7:47")],
    ids=["of all", "of one"],
)
def test_errors_name_the_line(written, wrong, place):
    with pytest.raises(DefinitionError) as refused:
        load(written(**wrong))
    assert place in str(refused.value)


def test_check_shows_the_next_windows_and_the_rule(written):
    shown = invoke("check", written(), columns=200).output
    assert "maintenance  2099-06-07 02:00 UTC to 2099-06-07 04:00 UTC, deploy" in shown
    assert "2099-06-21 02:00 UTC to 2099-06-21 04:00 UTC, deploy" in shown
    assert "2099-06-28" not in shown
    assert "all planned windows are over" in shown
    resolved = json.loads(invoke("check", written(), "--rules", "--json").output)[1]
    assert [window["start_unix_ns"] for window in resolved["next_maintenance"]][:1] == [ns("2099-06-07T02:00Z")]
    first, *_, last = [(rule["happened"], rule["outcome"], rule["reason"]) for rule in resolved["rules"]]
    told = "planned maintenance: FREQ=WEEKLY;BYDAY=SU, 2h each, from 2099-06-07 02:00 UTC, deploy"
    assert first == (told, "excluded", "maintenance")
    assert last == ("in flight when its worker was killed, in maintenance too", "bad", "crashed")


def test_a_clock_is_asked_only_where_there_are_windows(make_engine):
    class Counting(ManualClock):
        asked = 0

        def wall_ns(self):
            self.asked += 1
            return super().wall_ns()

    engine = make_engine(SLO("a", good=lambda event: None), clock=Counting())
    edge = SLOMiddleware(web, engine=engine)
    before = engine.clock.asked
    run(edge)
    engine.housekeeping()
    assert engine.clock.asked == before
