"""Freshness: judged by the age of the version that served, exact to the nanosecond at its limit, whoever tells when."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import Counter

import pytest
from drive import advance, cells, groups, http_scope, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_maintenance_recording import EDGES, turn_to, web

from otelslo import SLO, DefinitionError, Engine, ManualClock
from otelslo.asgi import SLOMiddleware
from otelslo.cli.state import look
from otelslo.event import Ending, Event
from otelslo.models import SINCE, Known, ModelFacts
from otelslo.registry import AGAIN_NS, EVERY_NS
from otelslo.slo import rules_table
from otelslo.window import DAY_NS, MINUTE_NS, SECOND_NS

START_NS = 1_700_000_000 * SECOND_NS
AGE_NS = 90 * DAY_NS
TRAINED_NS = START_NS - AGE_NS + 3600 * SECOND_NS  # is too old an hour after the start
EXPIRES_NS = TRAINED_NS + AGE_NS
CALLS = SLO("fresh", indicator="freshness", options={"max_age": "90d"})
PROPERTY = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def seconds(wall_ns):
    assert wall_ns % SECOND_NS == 0
    return wall_ns // SECOND_NS


def other_process(engine):
    """An engine that tells into the same database and is never started, as a job's is."""
    clock = ManualClock(engine.clock.wall_ns())
    return Engine([], state_dir=engine.state_dir, clock=clock)


def outcome(slo, facts, at_ns=START_NS, **event):
    event = {"route": "recommender", "attributes": {"version": "v1"}} | event
    judged = slo.judge(Event(slo.kind, known=Known(facts, at_ns), **event))
    assert judged.threshold_ns is None
    return tuple(judged.within)


# ── by the table ───────────────────────────────────────────────────────────────────────────────────────────────────
V1 = ("recommender", "v1")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({V1: ModelFacts(START_NS - AGE_NS)}, "good"),
        ({V1: ModelFacts(START_NS - AGE_NS - 1)}, "stale"),
        ({V1: ModelFacts(START_NS - AGE_NS - 1, START_NS - AGE_NS)}, "good"),
        ({V1: ModelFacts(START_NS - AGE_NS, START_NS - 2 * AGE_NS)}, "good"),
        ({V1: ModelFacts(None, START_NS)}, "good"),
        ({V1: ModelFacts(START_NS + DAY_NS)}, "good"),
        ({V1: ModelFacts()}, "undated"),
        ({("recommender", "v2"): ModelFacts(START_NS)}, "undated"),
        ({("fraud", "v1"): ModelFacts(START_NS)}, "undated"),
        ({}, "undated"),
        (None, "unknown_yet"),
    ],
)
def test_what_counts_as_what(facts, expected):
    kind = {"good": "good", "unknown_yet": "excluded"}.get(expected, "bad")
    assert outcome(CALLS, facts) == (kind, expected)


@pytest.mark.parametrize(
    ("since", "expected"), [("either", "good"), ("trained", "stale"), ("evaluated", "good")], ids=SINCE
)
def test_what_the_age_counts_from(since, expected):
    slo = SLO("fresh", indicator="freshness", options={"max_age": "90d", "since": since})
    assert outcome(slo, {V1: ModelFacts(START_NS - 2 * AGE_NS, START_NS)})[1] == expected
    assert outcome(slo, {V1: ModelFacts(START_NS, None)})[1] == ("undated" if since == "evaluated" else "good")


def test_which_model_and_version_it_is():
    """The event's own version before the option; the option's model before the event's, and that before its route."""
    facts = {V1: ModelFacts(START_NS)}
    named = SLO("a", indicator="freshness", options={"max_age": "90d", "model": "recommender", "version": "v1"})
    assert outcome(named, facts, route="/x", attributes={}) == ("good", "good")
    assert outcome(named, facts, attributes={"version": "v2"}) == ("bad", "undated")
    assert outcome(named, facts, attributes={"model": "fraud", "version": "v1"}) == ("good", "good")
    assert outcome(CALLS, facts, route=None, attributes={"model": "recommender", "version": "v1"}) == ("good", "good")
    assert outcome(CALLS, facts, attributes={"model": "fraud", "version": "v1"}) == ("bad", "undated")
    assert outcome(CALLS, facts, attributes={}) == ("bad", "undated")


@pytest.mark.parametrize("facts", [None, {}, {V1: ModelFacts(START_NS)}])
@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"ending": Ending.EXCEPTION, "failure": "oom"}, "failed"),
        ({"ending": Ending.EXCEPTION, "cascaded": True}, "failed"),
        ({"ending": Ending.CUT}, "failed"),
        ({"ending": Ending.NO_RESPONSE}, "failed"),
        ({"ending": Ending.SERVER_CANCEL}, "failed"),
        ({"status": 503}, "failed"),
        ({"ending": Ending.SHED}, "unanswered"),
        ({"ending": Ending.CLIENT_CANCEL}, "unanswered"),
        ({"status": 404}, "unanswered"),
    ],
)
def test_what_was_not_answered_is_another_objective_s_question(facts, event, reason):
    assert outcome(CALLS, facts, **event) == ("excluded", reason)


def test_the_app_s_word_and_changed_rules():
    """What it calls good is as fresh as its version; what it calls bad or excluded is that."""
    old, new = {V1: ModelFacts(0)}, {V1: ModelFacts(START_NS)}
    assert outcome(CALLS, old, verdict=("good", "good")) == ("bad", "stale")
    assert outcome(CALLS, new, verdict=("good", "good")) == ("good", "good")
    assert outcome(CALLS, new, verdict=("bad", "nonsense")) == ("bad", "nonsense")
    lenient = SLO(
        "a", indicator="freshness", options={"max_age": "90d"}, rules={"undated": "excluded", "exception": "bad"}
    )
    assert outcome(lenient, {}) == ("excluded", "undated")
    assert outcome(lenient, old) == ("bad", "stale")
    assert outcome(lenient, {}, ending=Ending.EXCEPTION) == ("bad", "exception")


def test_every_own_reason_has_a_cell_and_default_alerts_page_nobody():
    own = {"stale", "undated", "crashed", "unknown_yet", "failed", "unanswered", "health_check", "maintenance"}
    assert own <= set(CALLS.reason_cells)
    assert {tier.severity for tier in CALLS.alert_plan.tiers} == {"ticket"}
    assert CALLS.alert_plan.exhausted != "page"
    assert [reason for _, _, reason in rules_table(CALLS)].count("undated") == 1


def test_a_definition_needs_its_age():
    with pytest.raises(DefinitionError, match=r"'freshness' needs max_age\. Add max_age: 90d"):
        SLO("a", indicator="freshness")
    with pytest.raises(DefinitionError, match="says not what a version's age counts from"):
        SLO("a", indicator="freshness", options={"max_age": "90d", "since": "born"})
    with pytest.raises(DefinitionError, match=r"options?\.?version|version: 7 is no name"):
        SLO("a", indicator="freshness", options={"max_age": "90d", "version": 7})


# ── over an expiry ─────────────────────────────────────────────────────────────────────────────────────────────────
def objective(kind, **more):
    options = {"max_age": "90d", "model": "m", "version": "v"}
    return SLO("fresh", indicator="freshness", options=options, match={"kind": kind}, **more)


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.__name__)
@pytest.mark.parametrize("early_s", [59, 1, 0], ids=["housekeeping a minute before", "a second before", "just then"])
def test_exact_to_the_nanosecond(make_engine, edge, early_s):
    kind = {"asgi": "http", "wsgi": "http", "websocket": "websocket"}.get(edge.__name__, "call")
    engine = make_engine(objective(kind))
    engine.model("m", "v", trained_at=seconds(TRAINED_NS))
    engine.housekeeping()
    _, happen = edge(engine)
    for _ in range(2):  # the second by what is remembered
        happen()
    turn_to(engine, EXPIRES_NS - early_s * SECOND_NS - 2)
    engine.housekeeping()
    for at_ns in (EXPIRES_NS - 1, EXPIRES_NS, EXPIRES_NS + 1, EXPIRES_NS + 2):
        turn_to(engine, at_ns)
        happen()
    assert cells(engine, "fresh") == {"good": 4, "bad stale": 2}
    turn_to(engine, EXPIRES_NS + MINUTE_NS)
    engine.housekeeping()
    for _ in range(2):
        happen()
    assert cells(engine, "fresh") == {"good": 4, "bad stale": 4}
    assert engine.faults() == {}


def test_another_process_tells_in_between(make_engine):
    """Re-evaluated a second before the end: what is remembered is forgotten, and the new age ends as exactly."""
    engine = make_engine(objective("call"))
    engine.model("m", "v", trained_at=seconds(TRAINED_NS))
    track = engine.track("m")
    engine.housekeeping()
    engine.record(track, None, 1)
    turn_to(engine, EXPIRES_NS - SECOND_NS)
    other_process(engine).model("m", "v", evaluated_at=seconds(EXPIRES_NS - SECOND_NS))
    engine.housekeeping()
    turn_to(engine, EXPIRES_NS + MINUTE_NS)
    for _ in range(2):
        engine.housekeeping()
        engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 3}
    second_ns = EXPIRES_NS - SECOND_NS + AGE_NS
    turn_to(engine, second_ns - 30 * SECOND_NS)
    engine.housekeeping()
    for at_ns in (second_ns - 1, second_ns, second_ns + 1):
        turn_to(engine, at_ns)
        engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 5, "bad stale": 1}


def test_a_correction_takes_effect_within_seconds_and_stays(make_engine):
    engine = make_engine(objective("call"))
    engine.model("m", "v", trained_at=seconds(START_NS))
    track = engine.track("m")
    engine.housekeeping()
    engine.record(track, None, 1)
    other_process(engine).model("m", "v", trained_at=1, correct=True)
    advance(engine, ns=EVERY_NS)
    engine.housekeeping()
    for _ in range(2):
        engine.record(track, None, 1)
        advance(engine, s=1)
        engine.housekeeping()
    assert cells(engine, "fresh") == {"good": 1, "bad stale": 2}


def test_between_turning_points_plans_are_remembered(make_engine):
    engine = make_engine(objective("http"), SLO("calls", match={"kind": "call"}))
    engine.model("m", "v", trained_at=seconds(TRAINED_NS))
    edge, track = SLOMiddleware(web, engine=engine), engine.track("rerank")
    judged = []

    def judging(event, judge=engine.judge._judge):
        judged.append(event)
        return judge(event)

    engine.judge._judge = judging
    for at_ns in (START_NS, EXPIRES_NS - 30 * MINUTE_NS, EXPIRES_NS + 30 * MINUTE_NS):
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
    assert cells(engine, "fresh") == {"good": 20, "bad stale": 10}


def test_other_models_do_not_make_events_be_looked_at(make_engine):
    engine = make_engine(objective("call"))
    engine.model("another", "v", trained_at=seconds(TRAINED_NS))
    turn_to(engine, EXPIRES_NS)
    engine.housekeeping()
    assert not engine.dynamic


def test_a_time_that_passed_while_nothing_ran(make_engine):
    """Neither the start after a close nor an attach waits for housekeeping; a start sees what was told meanwhile."""
    engine = make_engine(objective("call"))
    engine.model("m", "v", trained_at=seconds(TRAINED_NS))
    engine.housekeeping()
    track = engine.track("m")
    engine.record(track, None, 1)
    engine.close()
    turn_to(engine, EXPIRES_NS + MINUTE_NS)
    engine.start()
    engine.record(track, None, 1)
    engine.close()
    other_process(engine).model("m", "v", evaluated_at=seconds(EXPIRES_NS))
    advance(engine, s=60)
    engine.start()
    engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 2, "bad stale": 1}


def test_a_step_of_the_wall_clock_is_judged_by_it(make_engine):
    engine = make_engine(objective("call"))
    engine.model("m", "v", trained_at=seconds(TRAINED_NS))
    track = engine.track("m")
    for step_s in (0, 4000, -4000, 4000, 4000):
        engine.clock.step_wall(s=step_s)
        engine.housekeeping()
        engine.record(track, None, 1)
        engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 4, "bad stale": 6}


def test_maintenance_and_groups_go_on_as_ever(make_engine):
    window = {"start": "2023-11-14T22:20Z", "duration": "5m"}
    engine = make_engine(
        SLO("fresh", indicator="freshness", options={"max_age": "90d"}, group_by="version", maintenance=[window])
    )
    engine.model("m", "v1", trained_at=seconds(TRAINED_NS))
    engine.housekeeping()
    tracks = [engine.track("m", version=version) for version in ("v1", "v2")]
    for at_ns in (START_NS, START_NS + 8 * MINUTE_NS, EXPIRES_NS + MINUTE_NS):
        turn_to(engine, at_ns)
        engine.housekeeping()
        for track in tracks:
            engine.record(track, None, 1)
    assert groups(engine, "fresh") == {
        "version=v1": {"good": 1, "excluded maintenance": 1, "bad stale": 1},
        "version=v2": {"bad undated": 2, "excluded maintenance": 1},
    }


# ── the slow twin ──────────────────────────────────────────────────────────────────────────────────────────────────
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from("ab"), st.sampled_from([None, None, "bad", "excluded"])),
        st.tuples(st.just("tell"), st.sampled_from("ab"), st.sampled_from([0, 100, 3600, 89 * 86_400])),
        st.tuples(st.just("wait"), st.integers(0, 40), st.sampled_from([0, 1])),
        st.tuples(st.just("jump"), st.sampled_from([1, 50, 90]), st.just(0)),
        st.tuples(st.just("to the end of"), st.sampled_from("ab"), st.sampled_from([-1, 0, 1])),
    ),
    min_size=30,
    max_size=80,
)


@PROPERTY
@given(MOVES)
def test_as_a_list_of_events_counts(make_engine, moves):
    """Calls at random, tellings by another process, housekeeping each half minute at least, days that pass."""
    slo = SLO("fresh", indicator="freshness", options={"max_age": "90d", "model": "m"})
    engine = make_engine(slo)
    job, told, counted = other_process(engine), {}, Counter()
    tracks = {version: engine.track("m", version=version) for version in "ab"}
    for move, of, more in moves:
        now_ns = engine.clock.wall_ns()
        if move == "call":
            engine.record(tracks[of], more, 1)
            if more is not None:
                counted[f"{more} other"] += 1
            elif of not in told:
                counted["bad undated"] += 1
            else:
                counted["good" if now_ns - told[of] <= AGE_NS else "bad stale"] += 1
        elif move == "tell":
            job.clock = ManualClock(now_ns)
            at_s = now_ns // SECOND_NS - more
            job.model("m", of, trained_at=at_s)
            told[of] = max(told.get(of, 0), at_s * SECOND_NS)
            for _ in range(2):  # within seconds
                advance(engine, ns=EVERY_NS)
                engine.housekeeping()
        elif move == "wait":
            advance(engine, ns=of * SECOND_NS + more)
            engine.housekeeping()
        elif move == "to the end of":
            ends_ns = told.get(of, 0) + AGE_NS
            if ends_ns - 40 * SECOND_NS > now_ns:
                turn_to(engine, ends_ns - 40 * SECOND_NS)
                engine.housekeeping()
                turn_to(engine, ends_ns + more)
        else:  # days in which nobody calls, and the minute in which housekeeping sees what comes
            advance(engine, s=of * 86_400 - 30)
            engine.housekeeping()
            advance(engine, s=30)
    assert cells(engine, "fresh") == counted
    assert engine.faults() == {}


def test_whenever_housekeeping_comes(make_engine):
    """A thousand calls at random while dozens of versions grow old one after the other."""
    chance = random.Random(8)
    engine = make_engine(SLO("fresh", indicator="freshness", options={"max_age": "1d", "model": "m"}))
    born = {}
    for number in range(40):
        born[f"v{number}"] = START_NS - DAY_NS + 97 * number * SECOND_NS
        engine.model("m", f"v{number}", trained_at=seconds(born[f"v{number}"]))
    tracks = {version: engine.track("m", version=version) for version in born}
    engine.housekeeping()
    counted, tidied_ns = Counter(), START_NS
    for _ in range(1000):
        step_ns = chance.choice([1, SECOND_NS, chance.randrange(12 * SECOND_NS)])
        turn_to(engine, engine.clock.wall_ns() + step_ns)
        now_ns = engine.clock.wall_ns()
        if chance.random() < 0.3 or now_ns - tidied_ns > 30 * SECOND_NS:
            engine.housekeeping()
            tidied_ns = now_ns
        version = chance.choice(list(born))
        engine.record(tracks[version], None, 1)
        counted["good" if now_ns - born[version] <= DAY_NS else "bad stale"] += 1
    assert cells(engine, "fresh") == counted
    assert min(counted.values()) > 100


# ── a database that is not there ───────────────────────────────────────────────────────────────────────────────────
@contextlib.contextmanager
def locked(engine):
    """As by a writer that holds it for long."""
    engine.runner.store.close()
    with contextlib.closing(sqlite3.connect(engine.state_dir / "otelslo.db", isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("otelslo.exporters.sqlite_schema.BUSY_TIMEOUT_S", 0.01)


def test_what_was_known_holds_while_the_database_is_locked_or_gone(make_engine, impatient):
    engine = make_engine(objective("call"))
    engine.model("m", "v", trained_at=seconds(TRAINED_NS))
    engine.housekeeping()
    track = engine.track("m")
    with locked(engine):
        for _ in range(3):
            advance(engine, ns=AGAIN_NS)
            engine.housekeeping()
            engine.record(track, None, 1)
        assert engine.faults() == {"internal": 1}
        turn_to(engine, EXPIRES_NS + 1)
        engine.housekeeping()
        engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 3, "bad stale": 1}
    (engine.state_dir / "otelslo.db").unlink()
    advance(engine, ns=AGAIN_NS)
    engine.housekeeping()
    engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 3, "bad stale": 2}


def test_a_database_that_was_lost_gets_back_what_is_known(make_engine):
    engine = make_engine(objective("call"))
    engine.model("m", "v", trained_at=seconds(TRAINED_NS))
    engine.housekeeping()
    engine.runner.tick()
    (engine.state_dir / "otelslo.db").unlink()
    for _ in range(3):
        advance(engine, ns=AGAIN_NS)
        engine.runner.tick()
    track = engine.track("m")
    engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 1}
    assert engine.runner.store.models.facts() == {("m", "v"): ModelFacts(TRAINED_NS)}


def test_a_start_before_anything_can_be_read_pages_nobody(make_engine, tmp_path, impatient):
    """Until the database can be read calls are excluded, and seen to be."""
    directory = tmp_path / "state"
    with make_engine(state_dir=directory) as before:
        before.runner.tick()
    with locked(before):
        engine = make_engine(objective("call"), state_dir=directory)
        track = engine.track("m")
        for _ in range(3):
            engine.record(track, None, 1)
            engine.housekeeping()
        assert cells(engine, "fresh") == {"excluded unknown_yet": 3}
    advance(engine, ns=AGAIN_NS)
    engine.housekeeping()
    engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"excluded unknown_yet": 3, "bad undated": 1}


def test_a_reload_begins_to_ask_and_ends_it(make_engine):
    engine = make_engine(SLO("calls", match={"kind": "call"}))
    track = engine.track("m")
    other_process(engine).model("m", "v", trained_at=seconds(TRAINED_NS))
    engine.record(track, None, 1)
    assert engine.registry.facts is None
    engine.reload([objective("call")])
    engine.record(track, None, 1)
    assert cells(engine, "fresh") == {"good": 1}
    engine.reload([SLO("calls", match={"kind": "call"})])
    turn_to(engine, EXPIRES_NS)
    engine.housekeeping()
    assert not engine.dynamic


# ── shown ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_loss_names_the_stale_version(make_engine):
    from cli.invoke import invoke

    engine = make_engine(CALLS)
    engine.model("recommender", "2023-06", trained_at=1)
    engine.model("recommender", "new", trained_at=seconds(START_NS))
    engine.housekeeping()
    for version, times in (("2023-06", 3), ("new", 5), ("unheard-of", 1)):
        for _ in range(times):
            engine.record(engine.track("recommender", version=version), None, 1)
    engine.runner.tick()
    found = {(one.reason, one.version): one.count for one in look(engine.state_dir).causes()}
    assert found == {("stale", "2023-06"): 3, ("undated", "unheard-of"): 1}
    result = invoke("explain", "fresh", "--by", "version", "--json", "--state-dir", engine.state_dir)
    named = [name for name in ("2023-06", "unheard-of", '"new"') if name in result.stdout]
    assert named == ["2023-06", "unheard-of"]


def test_requests_say_model_and_version_themselves(make_engine):
    async def gateway(scope, receive, send):
        scope["otelslo"].set(model=scope["path"][1:], version="7")
        await web(scope, receive, send)

    engine = make_engine(
        SLO("fresh", indicator="freshness", options={"max_age": "90d"}, match={"kind": "http", "route": "/*"})
    )
    engine.model("fraud", "7", evaluated_at=seconds(START_NS))
    engine.housekeeping()
    edge = SLOMiddleware(gateway, engine=engine, routes=["/{model}"])
    for path in ("/fraud", "/fraud", "/spam"):
        run(edge, http_scope(path))
    assert cells(engine, "fresh") == {"good": 2, "bad undated": 1}
