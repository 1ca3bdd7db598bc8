"""The engine through its public face: what a wrapped app gets for nothing, several objectives, user code that fails,
the record API, statuses as others read them, two engines on one directory."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from drive import LAST, START, Request, advance, cells, groups, http_scope, pause, run

from otelslo import SLO, Engine
from otelslo.asgi import SLOMiddleware
from otelslo.counts import Counts
from otelslo.errors import DefinitionError
from otelslo.event import Event
from otelslo.ring.geometry import Geometry

MS = 1_000_000
MINUTE_NS = 60_000 * MS


def answering(engine, statuses=None, ns=0):
    """An app that answers /500 with 500, after `ns`."""

    async def app(scope, receive, send):
        advance(engine, ns=ns)
        tail = scope["path"].rsplit("/", 1)[-1]
        await send(START | {"status": int(tail) if tail.isdigit() else 200})
        await send(LAST)

    return SLOMiddleware(app, engine=engine, routes=["/checkout/{status}", "/search/{status}", "/healthz"])


# ── for nothing ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_without_configuration(tmp_path, monkeypatch, make_engine):
    """Availability of 99.9 % over 30 days, traffic, percentiles, and what is in flight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTELSLO_CONFIG", raising=False)
    engine = Engine(state_dir=tmp_path / "s", clock=make_engine().clock, runner=False)
    with engine:
        wrapped = answering(engine, ns=10 * MS)
        for status in (200, 200, 301, 500, 404):
            run(wrapped, http_scope(f"/checkout/{status}"))
        run(wrapped, http_scope("/healthz"))
        (status,) = engine.status()
        assert (status.slo, status.target, status.window_ns) == (
            "availability",
            Fraction(999, 1000),
            30 * 1440 * MINUTE_NS,
        )
        assert status.counts == Counts(good=3, bad=1, excluded=2)
        assert status.reasons_total == {"5xx": 1, "client_error": 1, "health_check": 1}
        found = {entry.name: (entry.kind, entry.events) for entry in engine.traffic()}
        assert found == {"/checkout/{status}": ("http", 5), "/healthz": ("http", 1)}
        for entry in engine.traffic():
            for quantile in (entry.p50_ns, entry.p95_ns, entry.p99_ns):
                assert abs(quantile - 10 * MS) <= 0.0443 * 10 * MS
        assert engine.in_flight() == 0


def test_in_flight(engine):
    async def app(scope, receive, send):
        await pause()
        await send(START)
        await pause()
        await send(LAST)
        await pause()

    wrapped = SLOMiddleware(app, engine=engine)
    requests = [Request(wrapped, http_scope()) for _ in range(3)]
    seen = []
    for _ in range(3):
        for request in requests:
            request.step()
            seen.append(engine.in_flight())
    assert seen == [1, 2, 3, 3, 3, 3, 2, 1, 0]


# ── objectives ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_several_objectives_on_one_route(make_engine):
    engine = make_engine(
        SLO("all"),
        SLO("checkout", match={"route": "/checkout/*"}, target="99%"),
        SLO("posts", match={"method": ["POST", "PUT"]}),
        SLO("fast", indicator="latency", threshold="10ms"),
        SLO("faster", indicator="latency", threshold="9999us", match={"route": ["/checkout/*", "/search/*"]}),
        SLO("both", match={"route": "/search/*", "method": "POST"}),
    )
    wrapped = answering(engine, ns=10 * MS)
    for path, method in (
        ("/checkout/200", "GET"),
        ("/checkout/500", "POST"),
        ("/search/200", "POST"),
        ("/else", "PUT"),
    ):
        run(wrapped, http_scope(path, method))
    assert {slo: cells(engine, slo) for slo in ("all", "checkout", "posts", "fast", "faster", "both")} == {
        "all": {"good": 3, "bad 5xx": 1},
        "checkout": {"good": 1, "bad 5xx": 1},
        "posts": {"good": 2, "bad 5xx": 1},
        "fast": {"good": 3, "bad 5xx": 1},
        "faster": {"bad slow": 2, "bad 5xx": 1},
        "both": {"good": 1},
    }


def test_windows_forget(engine):
    wrapped = answering(engine)
    for _ in range(3):
        run(wrapped, http_scope("/checkout/500"))
        run(wrapped, http_scope("/checkout/200"))
        advance(engine, s=120)
    assert engine.count("availability", 1 * MINUTE_NS) == Counts()
    assert engine.count("availability", 3 * MINUTE_NS) == Counts(good=1, bad=1)
    assert engine.count("availability", 5 * MINUTE_NS) == Counts(good=2, bad=2)
    assert engine.count("availability", 30 * 1440 * MINUTE_NS) == Counts(good=3, bad=3)
    with pytest.raises(KeyError):
        engine.count("nope", MINUTE_NS)


def raising(event):
    raise LookupError(event.route)


def slow_is_nonsense(event):
    return "nonsense" if event.status == 202 else None


@pytest.mark.parametrize("key", ["good", "valid"])
def test_user_code_that_raises_is_left_out(make_engine, key, caplog):
    """The indicator judges alone, other objectives do not notice, a fault is counted for each event and logged once."""
    engine = make_engine(SLO("broken", **{key: raising}), SLO("sound"))
    wrapped = answering(engine)
    for status in (200, 500, 404):
        assert run(wrapped, http_scope(f"/checkout/{status}")).error is None
    expected = {"good": 1, "bad 5xx": 1, "excluded client_error": 1}
    assert cells(engine, "broken") == cells(engine, "sound") == expected
    assert engine.faults() == {"user_code": 3}
    assert [record.message for record in caplog.records if "user_code" in record.message] == [
        "user_code: broken: LookupError: /checkout/{status}; judged without it (said once)"
    ]


@pytest.mark.parametrize("where", ["match", "exclude"])
def test_conditions_that_raise(make_engine, where):
    """Counted as the objective's own: what cannot be told to be another's, or excluded, is not dropped."""
    condition = {"match": {"where": raising}} if where == "match" else {"exclude": [{"name": "x", "when": raising}]}
    engine = make_engine(SLO("a", **condition))
    run(answering(engine), http_scope("/checkout/500"))
    assert cells(engine, "a") == {"bad 5xx": 1}
    assert engine.faults() == {"user_code": 1}


def test_user_code_decides(make_engine):
    engine = make_engine(
        SLO("named", good=slow_is_nonsense, reasons=["nonsense"]),
        SLO("valid", valid=lambda event: event.method != "POST"),
        SLO("where", match={"where": lambda event: event.header("x-tier") == "gold"}),
        SLO("patient", good=lambda event: event.latency_s < 1),
    )
    wrapped = answering(engine, ns=2_000 * MS)
    for status, method, tier in ((200, "GET", "gold"), (202, "POST", "tin"), (500, "GET", "tin")):
        run(wrapped, http_scope(f"/checkout/{status}", method, {"X-Tier".lower(): tier}))
    assert cells(engine, "named") == {"good": 1, "bad nonsense": 1, "bad 5xx": 1}
    assert cells(engine, "valid") == {"good": 1, "excluded invalid": 1, "bad 5xx": 1}
    assert cells(engine, "where") == {"good": 1}
    assert cells(engine, "patient") == {"bad not_good": 2, "bad 5xx": 1}


def test_prepared_groups(make_engine):
    """A group that is to be expected has a row before its first event, if all that it needs is known."""
    engine = make_engine(
        SLO("r", group_by="route"), SLO("rm", group_by=["route", "method"]), SLO("rt", group_by=["route", "tier"])
    )
    for objective in engine.objectives:
        objective.prepare(Event("http", route="/x", method="GET"))
        objective.prepare(Event("call", route="/not-http", method="GET"))
        objective.make_groups(10)
    found = [sorted(set(objective.rows) - {"(unknown)", "(overflow)"}) for objective in engine.objectives]
    assert found == [["route=/x"], ["route=/x,method=GET"], []]


# ── record ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def calls(make_engine):
    return make_engine(
        SLO("calls", match={"kind": "call", "route": "rerank"}, group_by="version", reasons=["nonsense"]),
        SLO("fast", indicator="latency", threshold="10ms", match={"kind": "call"}),
        SLO("http"),
    )


def test_record(calls):
    track = calls.track("rerank", version="7")
    for outcome in ("good", None, "bad", "nonsense", "unheard_of", "excluded"):
        calls.record(track, outcome, 10 * MS)
    calls.record(track, "good", 10 * MS + 1)
    calls.record(calls.track("other"), "good", 0)
    assert groups(calls, "calls") == {
        "version=7": {"good": 3, "bad nonsense": 1, "bad other": 2, "excluded other": 1},
    }
    # The word of the app is bad or excluded for every objective; a good word is no faster.
    assert cells(calls, "fast") == {"good": 3, "bad slow": 1, "bad other": 3, "excluded other": 1}
    assert cells(calls, "http") == {}
    assert {entry.name: entry.events for entry in calls.traffic()} == {"rerank": 7, "other": 1}


@pytest.mark.parametrize("latency_ns", [-1, (1 << 62) + 1])
def test_record_refuses_bad_latencies(calls, latency_ns):
    track = calls.track("rerank")
    calls.record(track, "good", latency_ns)
    assert cells(calls, "calls") == {}
    assert calls.faults() == {"bad_latency": 1}


def test_record_many_equals_record(calls):
    rng = np.random.default_rng(7)
    outcomes = rng.integers(0, 3, 5000).astype(np.int8)
    latencies = rng.integers(0, 20 * MS, 5000)
    batch, single = calls.track("rerank", version="batch"), calls.track("rerank", version="single")
    calls.record_many(batch, outcomes, latencies)
    at_once = cells(calls, "fast")
    for outcome, latency in zip(outcomes.tolist(), latencies.tolist(), strict=True):
        calls.record(single, ("good", "bad", "excluded")[outcome], latency)
    assert cells(calls, "fast") == {reason: 2 * count for reason, count in at_once.items()}
    found = groups(calls, "calls")
    assert found["version=batch"] == found["version=single"]
    assert sum(found["version=batch"].values()) == 5000


def test_record_many_leaves_bad_values_out(calls):
    track = calls.track("rerank", version="1")
    calls.record_many(track, np.array([0, 3, -1, 0, 2], dtype=np.int8), np.array([1, 1, 1, -1, 1]))
    assert cells(calls, "calls") == {"good": 1, "excluded other": 1}
    assert calls.faults() == {"bad_latency": 3}
    for outcomes, latencies in (([0], [1, 2]), ([[0]], [[1]]), (["good"], [1])):
        with pytest.raises(ValueError, match="outcomes"):
            calls.record_many(track, np.array(outcomes), np.array(latencies))


# ── statuses ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_status_as_json(make_engine):
    engine = make_engine(SLO("a", target="99%", window="1d", group_by="route"), SLO("empty", match={"route": "/none"}))
    wrapped = answering(engine)
    for status in [200] * 198 + [500, 500, 404]:
        run(wrapped, http_scope(f"/search/{status}"))
    advance(engine, s=3600)
    found = {
        (entry["slo"], entry["group"]): entry
        for entry in json.loads(json.dumps([s.to_json() for s in engine.status()]))
    }
    entry = found["a", "route=/search/{status}"]
    assert {key: entry[key] for key in ("target", "window", "good", "bad", "valid", "excluded", "sli", "met")} == {
        "target": "99%", "window": "1d", "good": 198, "bad": 2, "valid": 200, "excluded": 1, "sli": 0.99, "met": True,
    }  # fmt: skip
    assert entry["observed_s"] == 3600
    assert entry["reasons_total"] == {"5xx": 2, "client_error": 1}
    assert {key: entry["budget"][key] for key in ("allowed", "spent", "remaining", "remaining_ratio")} == {
        "allowed": 2, "spent": 2, "remaining": 0, "remaining_ratio": 0,
    }  # fmt: skip
    assert entry["burn"]["5m"] is None
    assert entry["burn"]["2h"] == 1
    none = found["empty", None]
    assert (none["sli"], none["met"], none["valid"], none["budget"]["remaining_ratio"]) == (None, None, 0, None)


def test_statuses_leave_empty_overflow_out(make_engine):
    engine = make_engine(SLO("a", group_by="route"))
    assert engine.status() == []
    run(answering(engine), http_scope("/search/200"))
    groups_ = [status.group for status in engine.status()]
    assert "(overflow)" not in groups_
    assert "route=/search/{status}" in groups_


# ── one directory ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_two_engines_share_a_directory(make_engine, tmp_path):
    """In one process, as two apps of it might: one budget, a block for each."""
    slos = SLO("a"), SLO("l", indicator="latency", threshold="200ms")
    one = make_engine(*slos, state_dir=tmp_path / "shared")
    two = make_engine(*slos, state_dir=tmp_path / "shared", clock=one.clock)
    assert one.ring.blocks.index != two.ring.blocks.index
    for engine in (one, two, two):
        run(answering(engine), http_scope("/search/500"))
    assert one.count("a", MINUTE_NS) == two.count("a", MINUTE_NS) == Counts(bad=3)
    assert [s.to_json() for s in one.status()] == [s.to_json() for s in two.status()]
    one.close()
    run(answering(two), http_scope("/search/200"))
    assert two.count("a", MINUTE_NS) == Counts(good=1, bad=3)


def grouped(make_engine, tmp_path, **slo):
    """Two engines on one directory, each as a worker of its own."""
    slos = (SLO("a", match={"kind": "call"}, group_by="route", **slo),)
    one = make_engine(*slos, state_dir=tmp_path / "grouped")
    return one, make_engine(*slos, state_dir=tmp_path / "grouped", clock=one.clock)


def named_groups(engine):
    found = (engine.ring.reader.row_name(row) for row in range(engine.ring.reader.rows))
    return sorted(key.group for key in found if key.slo == "a" and not key.group.startswith("("))


def test_max_groups_are_of_the_host(make_engine, tmp_path):
    """Not of each worker; what finds no room is in the overflow row, and in the count of either."""
    one, two = grouped(make_engine, tmp_path, max_groups=5)
    for i in range(5):
        one.record(one.track(f"/one/{i}"), "good", 1)
        two.record(two.track(f"/two/{i}"), "bad", 1)
    assert len(named_groups(one)) == 5
    for engine in (one, two):
        engine.housekeeping()
        assert engine.count("a", MINUTE_NS) == Counts(good=5, bad=5)
        assert sum((status.counts for status in engine.status()), Counts()) == Counts(good=5, bad=5)


def test_groups_of_another_worker_are_adopted(make_engine, tmp_path):
    """Before any are made, and whatever was planned without them is planned anew."""
    one, two = grouped(make_engine, tmp_path, max_groups=2)
    mine, theirs = one.objectives[0], two.objectives[0]
    event = Event("call", route="/x")
    overflow = theirs.row_of(event)
    assert overflow == theirs.rows["(overflow)"]
    assert mine.row_of(event) == mine.rows["(overflow)"]
    one.housekeeping()
    plan = two.memo({"a plan": 1})
    two.housekeeping()
    assert plan == {}
    assert theirs.row_of(event) == mine.row_of(event) == mine.rows["route=/x"]
    assert named_groups(two) == ["route=/x"]
    one.record(one.track("/late"), "good", 1)
    assert two.count("a", MINUTE_NS) == Counts(good=1)


def test_a_group_made_by_another_between_looking_and_making_is_taken(make_engine, tmp_path):
    one, two = grouped(make_engine, tmp_path, max_groups=1)
    for engine, route in ((one, "/x"), (two, "/x"), (two, "/y")):
        engine.objectives[0].row_of(Event("call", route=route))
    assert one.objectives[0].make_groups(10) == 1
    two.objectives[0].make_groups(10)
    assert two.objectives[0].rows["route=/x"] == one.objectives[0].rows["route=/x"]
    assert named_groups(two) == ["route=/x"]


# ── many ───────────────────────────────────────────────────────────────────────────────────────────────────────────
ROOMY = Geometry(max_blocks=4, fine_slots=8, fine_per_coarse=3600, coarse_slots=100, snapshots=2, log_records=64)
MANY = 200


def many(make_engine, geometry, *more):
    """200 objectives of a route each, and one request of each route in flight in a worker that then dies."""
    slos = [SLO(f"s{i:03d}", match={"kind": "call", "route": f"/r{i:03d}"}) for i in range(MANY)]
    engine = make_engine(*slos, *more, geometry=geometry)
    for i in range(MANY):
        assert engine.kernels.begin(engine.page, engine.track(f"/r{i:03d}").index) > 0
    assert engine.in_flight() == MANY
    engine.ring.blocks.detach()
    settled = engine.ring.blocks.attach()
    assert (settled.crashed, engine.in_flight()) == (MANY, 0)
    return engine


def test_two_hundred_objectives_each_get_their_own_crash(make_engine):
    engine = many(make_engine, ROOMY)
    assert {cells(engine, f"s{i:03d}").get("bad crashed") for i in range(MANY)} == {1}
    names = [engine.ring.reader.histogram_key(h) for h in range(engine.ring.reader.histograms)]
    assert len(names) == ROOMY.max_histograms


def test_where_tracks_run_out_crashes_are_booked_on_the_fallback(make_engine, caplog):
    """Its objectives are those of all routes and then others, up to 64, and it says so."""
    engine = many(make_engine, replace(ROOMY, max_tracks=20), SLO("all", match={"kind": "call"}))
    crashed = {slo.name: cells(engine, slo.name).get("bad crashed", 0) for slo in engine.slos}
    assert crashed["all"] == MANY
    booked = [name for name, count in crashed.items() if count > 1]
    assert len(booked) == 64
    assert engine.faults()["capacity"] >= MANY - 20
    (said,) = [record.message for record in caplog.records if "20 tracks" in record.message]
    assert "in a crash requests like call '/r0" in said
    assert "are booked on 64 objectives of all call" in said


def test_a_default_file_of_two_hundred_objectives_is_at_most_100_mb():
    """With every histogram in use and eight workers."""
    g = Geometry()
    extents = -(-(MANY + 1) // 16)
    size = g.fixed_bytes + extents * g.row_extent_bytes + g.max_histograms * g.histogram_bytes + 8 * g.block_bytes
    assert size <= 100_000_000
    assert g.block_bytes <= 512 * 1024


def test_each_name_without_room_is_a_fault(make_engine):
    """Once, however often it is asked for; its latencies are shown under (other)."""
    engine = make_engine(SLO("a"), geometry=replace(ROOMY, max_histograms=4))
    for _ in range(2):
        for name in ("/one", "/two", "/three", "/four"):
            engine.names.histogram_of("http", name)
            engine.housekeeping()
    assert engine.faults() == {"capacity": 2}


def test_a_string_without_room_is_a_fault(make_engine):
    engine = make_engine(SLO("a"), geometry=replace(ROOMY, strings_bytes=4096))
    for i in range(40):
        engine.names.string("x" * 100 + str(i))
    engine.housekeeping()
    refused = engine.faults()["capacity"]
    assert refused > 0
    engine.names.string("x" * 100 + "39")
    engine.housekeeping()
    assert engine.faults()["capacity"] == refused


# ── windows longer than the ring ───────────────────────────────────────────────────────────────────────────────────
def test_a_window_that_the_ring_does_not_reach_is_not_whole(make_engine, tmp_path):
    """A ring made for a short window, and a worker that asks a long one while the first lives."""
    short = replace(ROOMY, fine_per_coarse=6, coarse_slots=20)
    one = make_engine(SLO("a", window="10m", match={"kind": "call"}), state_dir=tmp_path / "s", geometry=short)
    track = one.track("/x")
    born_ns = one.clock.ring_ns()
    for _ in range(60):
        one.record(track, "good", 1)
        advance(one, s=60)
    (status,) = one.status()
    assert (status.whole, status.counts.good, status.born_ns) == (True, 10, status.observed_since_ns)
    slo = SLO("a", window="1h", match={"kind": "call"})
    two = make_engine(slo, state_dir=tmp_path / "s", clock=one.clock, geometry=short)
    (status,) = two.status()
    offset = two.ring.reader.wall_offset_ns()
    reach_ns = (two.clock.ring_ns() // MINUTE_NS - 18) * MINUTE_NS
    assert (status.whole, status.counts.good) == (False, 18)
    assert (status.observed_since_ns, status.born_ns) == (reach_ns + offset, born_ns + offset)
    assert status.to_json()["whole"] is False
    assert (status.observed_ns, status.reasons_total) == (two.clock.ring_ns() - reach_ns, {})


def test_a_new_target_keeps_history_and_a_new_meaning_does_not(make_engine, tmp_path):
    first = make_engine(SLO("a", target="99%"), state_dir=tmp_path / "kept")
    run(answering(first), http_scope("/search/500"))
    first.close()
    clock = first.clock
    same = make_engine(SLO("a", target="90%", window="7d"), state_dir=tmp_path / "kept", clock=clock)
    assert same.count("a", MINUTE_NS) == Counts(bad=1)
    same.close()
    other = make_engine(SLO("a", rules={"500": "good"}), state_dir=tmp_path / "kept", clock=clock)
    assert other.count("a", MINUTE_NS) == Counts()


def test_starting_and_closing_again_is_harmless(make_engine):
    engine = make_engine(SLO("a"))
    engine.start()
    run(answering(engine), http_scope("/search/200"))
    engine.close()
    engine.close()
    assert engine.start().count("a", MINUTE_NS) == Counts(good=1)


def test_duplicate_names_are_refused():
    with pytest.raises(DefinitionError, match="a"):
        Engine([SLO("a"), SLO("a")])
