"""Windows of drift as the leader closes them: exact counts, one event each, over restarts, rivals and lost rings."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from drive import advance
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from drift.stream import BASELINES, FEATURES, columns, objective
from otelslo import SLO, Counts, Limit, ManualClock
from otelslo.drift.baseline import Baseline
from otelslo.drift.verdict import Pair, join
from otelslo.drifting import Drifting, SavedRows, limit_value, window_start
from otelslo.exporters.sqlite_drift import MOST_WINDOWS, ClosedWindow, put_closed
from otelslo.ring.geometry import Geometry
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, WEEK_NS

MONDAY_NS = 1_700_438_400 * SECOND_NS  # 2023-11-20 00:00 UTC, a Monday
NOW_NS = MONDAY_NS + 10 * HOUR_NS + 20 * MINUTE_NS
GEOMETRY = Geometry(max_blocks=8, snapshots=4, fine_slots=64)


@pytest.fixture
def leading(make_engine):
    def make(*slos, at_ns=NOW_NS, **arguments):
        engine = make_engine(*slos, clock=ManualClock(at_ns), geometry=GEOMETRY, **arguments)
        turn(engine)
        assert engine.runner.leading
        return engine

    return make


def turn(engine, *, s=1):
    advance(engine, s=s)
    engine.runner.tick()


def to_next_hour(engine):
    """The first turn after the end of the window."""
    left_ns = HOUR_NS - engine.clock.wall_ns() % HOUR_NS
    advance(engine, ns=left_ns)
    engine.runner.tick()


def closed(engine, slo="fraud-drift", last=MOST_WINDOWS):
    return engine.runner.store.drift.windows(slo, last)


def events(engine, slo="fraud-drift"):
    """Counts by group of everything that was ever counted of an objective."""
    return {row.key.group: row.counts for row in engine.runner.store.dated().read().rows if row.key.slo == slo}


def feed(engine, seed, rows=2_000, **moved):
    column = columns(np.random.default_rng(seed), rows, **moved)
    engine.features.observe("fraud", column)
    return column


# ── one window after the other ─────────────────────────────────────────────────────────────────────────────────────
def test_steady_drifted_and_too_little(leading) -> None:
    engine = leading(objective())
    feed(engine, 1)
    to_next_hour(engine)
    assert events(engine) == {None: Counts(1, 0, 0)}
    feed(engine, 2, older=1)
    to_next_hour(engine)
    assert events(engine) == {None: Counts(1, 1, 0)}
    feed(engine, 3, rows=50)
    to_next_hour(engine)
    to_next_hour(engine)  # nothing came at all
    assert events(engine) == {None: Counts(1, 1, 2)}
    states = [{one.feature: one.state for one in closed(engine) if one.start_wall_ns == at} for at in starts(engine)]
    little = dict.fromkeys(FEATURES, "not_enough_data")
    steady = dict.fromkeys(FEATURES, "steady")
    assert states == [steady, steady | {"age": "drifted"}, little, little]
    (status,) = engine.status()
    assert (status.counts, status.met) == (Counts(1, 1, 2), True)
    row = next(row for row in engine.runner.store.dated().read().rows)
    assert dict(zip(row.key.reasons, row.cells, strict=True))["drifted"] == 1


def starts(engine):
    return sorted({one.start_wall_ns for one in closed(engine)})


def test_no_window_is_closed_before_its_end_or_twice(leading) -> None:
    engine = leading(objective())
    feed(engine, 1)
    advance(engine, ns=HOUR_NS - engine.clock.wall_ns() % HOUR_NS - 1)
    engine.runner.tick()
    assert closed(engine) == []
    for _ in range(5):
        turn(engine)
    assert events(engine) == {None: Counts(1, 0, 0)}
    (start,) = starts(engine)
    assert start == NOW_NS // HOUR_NS * HOUR_NS
    assert {one.end_wall_ns for one in closed(engine)} == {start + HOUR_NS}


def test_counts_of_each_window_are_those_that_came_in_it(leading) -> None:
    """Bin by bin, and scipy says the same divergence of them, on the live counts end to end."""
    engine = leading(*(objective(name, measure=measure) for name, measure in MEASURES.items()))
    for seed in range(4):
        column = feed(engine, 10 + seed, older=seed / 8)
        to_next_hour(engine)
        for one in BASELINES:
            live = one.bins.count(column[one.feature]).tolist()
            for name, by_scipy in SCIPY.items():
                (found,) = [w for w in closed(engine, name, 1) if w.feature == one.feature]
                pair = join(Pair(one.counts, tuple(live))).told_by(found.data["level"])
                assert 0 not in (*pair.baseline, *pair.live)
                e, a = (np.array(side) / sum(side) for side in (pair.baseline, pair.live))
                assert found.data["value"] == pytest.approx(by_scipy(e, a), rel=1e-12, abs=1e-12)
                told = {bin_["bin"]: bin_["live"] for bin_ in found.data["top_bins"]}
                assert told == {bin_: n for bin_, n, m in zip(one.bins.names, live, one.counts, strict=True) if n or m}


MEASURES = {
    "psi": "psi",
    "js": {"name": "js", "unit": "bits"},
    "kl": {"name": "kl", "unit": "nats", "direction": "live_from_baseline"},
    "lk": {"name": "kl", "unit": "bits", "direction": "baseline_from_live"},
}
SCIPY = {
    "psi": lambda e, a: entropy(a, e) + entropy(e, a),
    "js": lambda e, a: jensenshannon(e, a, base=2) ** 2,
    "kl": lambda e, a: entropy(a, e),
    "lk": lambda e, a: entropy(e, a, base=2),
}


def test_one_event_for_each_feature_where_grouped_by_it(leading) -> None:
    engine = leading(objective(group_by="feature"))
    feed(engine, 1, older=1)
    to_next_hour(engine)
    good = Counts(1, 0, 0)
    assert events(engine) == {"feature=age": Counts(0, 1, 0), "feature=amount": good, "feature=country": good}


def test_one_drifted_feature_outweighs_one_without_enough_rows(leading) -> None:
    small = Baseline.of("small", np.random.default_rng(1).normal(size=200), "numeric")
    engine = leading(objective(baseline=[*BASELINES, small], limit=0.01))
    column = columns(np.random.default_rng(1), 2000, older=1) | {"small": np.random.default_rng(2).normal(size=2000)}
    engine.features.observe("fraud", column)
    to_next_hour(engine)
    assert {one.feature: one.state for one in closed(engine)}["small"] == "not_enough_data"
    assert events(engine) == {None: Counts(0, 1, 0)}
    engine.features.observe("fraud", columns(np.random.default_rng(1), 20_000) | {"small": [0.0] * 20_000})
    to_next_hour(engine)


def test_windows_of_a_week_begin_on_mondays_and_those_of_a_day_at_midnight() -> None:
    assert window_start(MONDAY_NS, WEEK_NS) == MONDAY_NS
    assert window_start(MONDAY_NS - 1, WEEK_NS) == MONDAY_NS - WEEK_NS
    assert window_start(MONDAY_NS + WEEK_NS - 1, WEEK_NS) == MONDAY_NS
    for every in (DAY_NS, HOUR_NS, 15 * MINUTE_NS):
        assert window_start(NOW_NS, every) == NOW_NS // every * every


def test_the_event_is_dated_at_the_end_of_its_window(leading) -> None:
    engine = leading(objective(every="7d", window="364d"))
    feed(engine, 1)
    advance(engine, ns=MONDAY_NS + WEEK_NS - engine.clock.wall_ns())
    engine.runner.tick()
    (row,) = engine.runner.store.dated().read().rows
    assert row.birth_wall_ns == MONDAY_NS + WEEK_NS - 5 * MINUTE_NS
    assert engine.status()[0].counts == Counts(1, 0, 0)
    assert engine.ring.geometry.coarse_slots == GEOMETRY.coarse_slots, "no ring needs to reach over a year for it"


def test_planned_maintenance_at_its_end_and_changed_rules(leading) -> None:
    options = {"measure": "psi", "limit": 0.1, "every": "1h", "baseline": BASELINES}
    shared = {"indicator": "drift", "match": {"route": "fraud"}, "options": options}
    planned = [{"start": "2023-11-20T10:30:00Z", "end": "2023-11-20T11:30:00Z"}]
    engine = leading(
        SLO("planned", maintenance=planned, **shared),
        SLO("changed", rules={"drifted": "excluded"}, **shared),
        SLO("broken", good=lambda event: 1 / 0, **shared),
    )
    feed(engine, 1, older=1)
    to_next_hour(engine)
    assert events(engine, "planned") == events(engine, "changed") == {None: Counts(0, 0, 1)}
    assert events(engine, "broken") == {None: Counts(0, 1, 0)}, "judged without what the user's code would say"
    assert engine.faults()["user_code"] == 1


# ── over restarts, rivals, and what is lost ────────────────────────────────────────────────────────────────────────
def test_another_leader_goes_on_in_the_same_window(leading, make_engine, tmp_path) -> None:
    first = leading(objective(), state_dir=tmp_path)
    second = make_engine(objective(), state_dir=tmp_path, clock=ManualClock(NOW_NS), geometry=GEOMETRY)
    total = [feed(first, 1, rows=700), feed(second, 2, rows=600)]
    turn(first)
    first.close()
    advance(second, ns=first.clock.ring_ns() - second.clock.ring_ns() + SECOND_NS)
    total.append(feed(second, 3, rows=500))
    second.runner.tick()
    assert second.runner.leading
    to_next_hour(second)
    assert events(second) == {None: Counts(1, 0, 0)}
    for one in BASELINES:
        live = sum(one.bins.count(column[one.feature]) for column in total)
        (found,) = [window for window in closed(second) if window.feature == one.feature]
        assert found.data["live_rows"] == 1800
        assert {b["bin"]: b["live"] for b in found.data["top_bins"] if b["live"]} == {
            name: count for name, count in zip(one.bins.names, live.tolist(), strict=True) if count
        }


def test_two_that_both_believe_to_lead_close_a_window_once(leading) -> None:
    engine = leading(objective())
    rival = Drifting(engine, engine.runner.store)
    rival.tend(engine.clock.wall_ns())
    feed(engine, 1)
    to_next_hour(engine)
    rival.tend(engine.clock.wall_ns())
    assert events(engine) == {None: Counts(1, 0, 0)}
    feed(engine, 2)
    advance(engine, ns=HOUR_NS)
    engine.runner.leader.drifting = Drifting(engine, engine.runner.store)
    engine.runner.tick()
    rival.tend(engine.clock.wall_ns())
    engine.runner.leader.drifting.tend(engine.clock.wall_ns())
    assert events(engine) == {None: Counts(2, 0, 0)}
    assert [one.data["live_rows"] for one in closed(engine, last=1)] == [2000] * 3


def test_a_transaction_that_fails_has_closed_nothing(leading, monkeypatch) -> None:
    engine = leading(objective())
    feed(engine, 1)
    with monkeypatch.context() as broken:
        broken.setattr("otelslo.drifting.put_closed", lambda *_: 1 / 0)
        to_next_hour(engine)
    assert events(engine) == {}
    assert engine.faults() == {"internal": 1}
    turn(engine)
    assert events(engine) == {None: Counts(1, 0, 0)}


def test_a_leader_that_comes_late_closes_one_window_and_says_what_it_spans(leading, make_engine, tmp_path) -> None:
    first = leading(objective(), state_dir=tmp_path)
    feed(first, 1, rows=700)
    first.close()
    later = ManualClock(NOW_NS + 3 * HOUR_NS)
    second = make_engine(objective(), state_dir=tmp_path, clock=later, geometry=GEOMETRY)
    feed(second, 2, rows=800)
    second.runner.tick()
    assert events(second) == {None: Counts(1, 0, 0)}
    start = NOW_NS // HOUR_NS * HOUR_NS
    assert {(one.start_wall_ns, one.data["spans"], one.data["live_rows"]) for one in closed(second)} == {
        (start, 3, 1500)
    }
    to_next_hour(second)
    assert starts(second) == [start, start + 3 * HOUR_NS]
    assert [one.data["live_rows"] for one in closed(second, last=1)] == [0] * 3


def test_a_history_that_is_lost_begins_anew_with_what_comes(leading) -> None:
    engine = leading(objective())
    feed(engine, 1, rows=700)
    to_next_hour(engine)
    turn(engine, s=600)
    feed(engine, 2, rows=300)
    for path in engine.state_dir.glob("otelslo.db*"):
        path.unlink()
    turn(engine, s=61)
    feed(engine, 3, rows=500)
    to_next_hour(engine)
    assert [one.data["live_rows"] for one in closed(engine)] == [500] * 3
    assert {one.from_wall_ns for one in closed(engine)} != {closed(engine)[0].start_wall_ns}


def test_a_ring_that_is_lost_goes_on_from_the_history(leading, make_engine, tmp_path) -> None:
    first = leading(objective(), state_dir=tmp_path)
    feed(first, 1, rows=700)
    turn(first)
    first.close()
    (tmp_path / "live.ring").unlink()
    second = make_engine(objective(), state_dir=tmp_path, clock=ManualClock(NOW_NS + MINUTE_NS), geometry=GEOMETRY)
    feed(second, 2, rows=800)
    second.runner.tick()
    to_next_hour(second)
    assert [one.data["live_rows"] for one in closed(second)] == [1500] * 3


def test_a_ring_that_is_new_beside_an_old_history_counts_from_zero(leading, make_engine, tmp_path) -> None:
    """Where totals fell below those at the window's start, what the new ring holds is what is known to have come."""
    first = leading(objective(), state_dir=tmp_path)
    feed(first, 1, rows=900)
    to_next_hour(first)
    first.close()
    for path in (*tmp_path.glob("live.ring*"), *tmp_path.glob("otelslo.db*")):
        path.unlink()
    second = make_engine(objective(), state_dir=tmp_path, clock=ManualClock(NOW_NS + HOUR_NS), geometry=GEOMETRY)
    second.runner.tick()
    with second.runner.store.writing(second.clock.wall_ns()) as connection:
        connection.execute("UPDATE drift_open SET totals = replace(totals, '0', '7')")
    feed(second, 2, rows=500)
    to_next_hour(second)
    assert [one.data["live_rows"] for one in closed(second)] == [500] * 3


def test_a_clock_that_is_set_back_closes_nothing_twice(leading) -> None:
    engine = leading(objective())
    feed(engine, 1)
    to_next_hour(engine)
    drifting = engine.runner.leader.drifting
    drifting._known.clear()
    for back in (0, HOUR_NS, DAY_NS):
        drifting.tend(engine.clock.wall_ns() - back)
    assert events(engine) == {None: Counts(1, 0, 0)}


def test_a_new_baseline_in_the_middle_of_a_window_counts_from_there(leading) -> None:
    engine = leading(objective())
    feed(engine, 1, rows=700)
    turn(engine)
    column = columns(np.random.default_rng(9), 10_000, older=1)
    newer = [Baseline.of("age", column["age"], "numeric"), *BASELINES[1:]]
    engine.reload([objective(baseline=newer)])
    feed(engine, 2, rows=500, older=1)
    to_next_hour(engine)
    rows = {one.feature: one.data["live_rows"] for one in closed(engine)}
    assert rows == {"age": 500, "amount": 1200, "country": 1200}
    assert {one.state for one in closed(engine)} == {"steady"}


def test_an_objective_that_comes_to_a_stream_in_its_second_hour(leading) -> None:
    engine = leading(objective())
    feed(engine, 1, rows=700)
    to_next_hour(engine)
    feed(engine, 2, rows=400)
    turn(engine)
    engine.reload([objective(), objective("late", limit=0.2)])
    turn(engine)
    feed(engine, 3, rows=300)
    to_next_hour(engine)
    assert [one.data["live_rows"] for one in closed(engine, last=1)] == [700] * 3
    assert [one.data["live_rows"] for one in closed(engine, "late", 1)] == [300] * 3


def test_a_live_baseline_is_judged_by_from_its_first_window_on(leading) -> None:
    engine = leading(objective(baseline="live:2000", features={"age": "numeric"}))
    feed(engine, 1)
    to_next_hour(engine)
    assert events(engine) == {}
    feed(engine, 2)
    to_next_hour(engine)
    feed(engine, 3, older=1)
    to_next_hour(engine)
    assert events(engine) == {None: Counts(1, 1, 0)}


def test_the_history_keeps_baselines_and_as_many_windows_as_it_says(leading) -> None:
    engine = leading(objective())
    kept = engine.runner.store.drift.baselines("fraud", "given fraud-drift")
    assert [Baseline.parse(one) for one in kept.values()] == sorted(BASELINES, key=lambda one: one.feature)
    windows = [ClosedWindow("s", "f", "age", n, n + 1, n, n + 1, "steady", {}) for n in range(MOST_WINDOWS + 7)]
    with engine.runner.store.writing(engine.clock.wall_ns()) as connection:
        put_closed(connection, "s m", windows)
    assert [one.start_wall_ns for one in closed(engine, "s", MOST_WINDOWS * 2)] == list(range(MOST_WINDOWS + 6, 6, -1))


def test_rows_of_the_last_commit_are_read_by_their_own_names(leading) -> None:
    engine = leading(objective())
    rows = SavedRows(engine.runner.store.load())
    reader = engine.ring.reader
    assert [rows.row_name(n) for n in range(rows.rows)] == [reader.row_name(n) for n in range(reader.rows)]
    assert rows.wall_ns == engine.clock.wall_ns()


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────
KL = {"name": "kl", "unit": "nats", "direction": "live_from_baseline"}
WEEKLY = Limit("weekly-kl", limit=0.1)


def test_weekly_kl_at_most_a_tenth_as_a_limit(leading, tmp_path) -> None:
    slo = objective(measure=KL, tells=["weekly-kl"], every="7d", window="364d", target="98%")
    engine = leading(slo, limits=[WEEKLY])

    def week():
        advance(engine, ns=WEEK_NS)
        engine.runner.tick()
        (status,) = engine.observing.statuses()
        return status

    feed(engine, 1)
    assert (week().state, week().value) == ("met", Fraction(0)), "an empty week tells nothing new"
    feed(engine, 2, older=1)
    status = week()
    assert status.state == "breached"
    told = {one.feature: one.data for one in closed(engine, last=1)}
    assert status.value == Fraction(repr(told["age"]["corrected"]))
    assert status.value > Fraction(1, 10)
    assert engine.observing.statuses()[0].limit.severity == "ticket"
    feed(engine, 3)
    assert week().state == "met"


def test_a_new_leader_tells_what_the_last_one_did_not_come_to(leading, monkeypatch) -> None:
    engine = leading(objective(tells=["weekly-kl"]), limits=[WEEKLY])
    feed(engine, 1, older=1)
    with monkeypatch.context() as broken:
        broken.setattr(engine.observing, "tell", lambda *_: 1 / 0)
        to_next_hour(engine)
    assert engine.observing.statuses()[0].state == "no_data"
    engine.runner.leader.drifting = Drifting(engine, engine.runner.store)
    turn(engine)
    assert engine.observing.statuses()[0].state == "breached"
    at = engine.observing.statuses()[0].at_wall_ns
    engine.runner.leader.drifting = Drifting(engine, engine.runner.store)
    turn(engine)
    assert engine.observing.statuses()[0].at_wall_ns == at, "told once"


def test_a_limit_of_another_unit_is_said_and_hurts_no_window(leading) -> None:
    engine = leading(objective(tells=["age"]), limits=[Limit("age", limit="90d")])
    feed(engine, 1)
    to_next_hour(engine)
    assert events(engine) == {None: Counts(1, 0, 0)}
    assert engine.faults() == {"user_code": 1}


def window(state, p_value=None, level=None, corrected=None):
    data = {"p_value": p_value, "level": level, "corrected": corrected}
    return ClosedWindow("s", "f", "x", 0, 1, 0, 1, state, data)


@pytest.mark.parametrize(
    ("windows", "value"),
    [
        ([], None),
        ([window("not_enough_data")], None),
        ([window("steady", 0.5, 0.01, 0.3)], 0),
        ([window("steady", 0.001, 0.01, 0.05), window("steady", 0.5, 0.01, 0.3)], 0.05),
        ([window("steady", 0.001, 0.01, 0.05), window("not_enough_data")], None),
        ([window("drifted", 0.001, 0.01, 0.4), window("not_enough_data")], 0.4),
        ([window("drifted", 0.001, 0.01, math.pi), window("drifted", 0.001, 0.01, 0.2)], math.pi),
    ],
)
def test_what_a_limit_is_told(windows, value) -> None:
    assert limit_value(windows) == value


def test_what_is_kept_is_plain_json(leading) -> None:
    engine = leading(objective())
    feed(engine, 1)
    to_next_hour(engine)
    for one in closed(engine):
        assert json.loads(json.dumps(one.data, allow_nan=False)) == one.data
        assert {"value", "bias", "corrected", "p_value", "level", "rows_needed", "limit", "top_bins"} <= set(one.data)
