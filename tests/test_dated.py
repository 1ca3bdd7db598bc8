"""Counts with a time of their own: as a naive list of events has them, and revised in windows that are long closed."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict

import pytest
from drive import advance
from hypothesis import given, settings
from hypothesis import strategies as st

from otelslo import SLO, Counts
from otelslo.dated import SLOT_NS, DatedAdd, DatedRow, slot_of
from otelslo.event import Outcome
from otelslo.exporters.sqlite import Store
from otelslo.exporters.sqlite_dated import add_dated, corrections, expire_dated, set_dated
from otelslo.notice import Notice
from otelslo.ring.geometry import Geometry
from otelslo.rowkey import RowKey
from otelslo.window import DAY_NS, HOUR_NS, MINUTE_NS

NOW_NS = 1_700_000_000 * 10**9
KEYS = [RowKey(name, "m", None, ("good", *["x"] * 15)).text() for name in ("one", "two")]
times = st.integers(NOW_NS - 3 * HOUR_NS, NOW_NS)
adds = st.builds(DatedAdd, st.sampled_from(KEYS), times, st.integers(0, 15), st.integers(1, 5), st.booleans())
slots_set = st.tuples(st.sampled_from(KEYS), times, st.dictionaries(st.integers(0, 15), st.integers(0, 9)))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "otelslo.db")
    store.open(NOW_NS)
    yield store
    store.close()


class Naive:
    """Every event by row, slot and cell."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, int, int], int] = defaultdict(int)

    def add(self, one: DatedAdd) -> None:
        self.events[one.row_key, slot_of(one.at_wall_ns), one.cell] += one.count

    def set(self, key: str, at_ns: int, cells: dict[int, int]) -> None:
        for known in [k for k in self.events if k[:2] == (key, slot_of(at_ns))]:
            del self.events[known]
        for cell, count in cells.items():
            self.events[key, slot_of(at_ns), cell] = count

    def between(self, key: str, start_ns: int, end_ns: int) -> Counts:
        found = [
            (cell, n) for (k, slot, cell), n in self.events.items() if k == key and slot_of(start_ns) <= slot <= end_ns
        ]
        return Counts(
            sum(n for cell, n in found if cell == 0),
            sum(n for cell, n in found if 0 < cell < 10),
            sum(n for cell, n in found if cell >= 10),
        )


def rows_of(counts):
    return {row.key.text(): row for row in counts.rows}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.one_of(adds, slots_set), max_size=6), max_size=5), times, times)
def test_what_is_read_step_by_step_is_what_was_written(tmp_path_factory, turns, start_ns, end_ns) -> None:
    store, naive = Store(tmp_path_factory.mktemp("dated") / "otelslo.db"), Naive()
    store.open(NOW_NS)
    reader = store.dated()
    for turn in turns:
        with store.writing(NOW_NS) as connection:
            for one in turn:
                if isinstance(one, DatedAdd):
                    add_dated(connection, [one], NOW_NS)
                    naive.add(one)
                else:
                    set_dated(connection, one[0], one[1], one[2], NOW_NS)
                    naive.set(*one)
        found = rows_of(reader.read())
        assert found.keys() >= {key for (key, _, _), count in naive.events.items() if count}
        for key, row in found.items():
            assert row.between(start_ns, end_ns) == naive.between(key, start_ns, end_ns)
            assert row.counts == naive.between(key, 0, NOW_NS)
    again = rows_of(store.dated().read())
    assert {key: row.counts for key, row in again.items()} == {
        key: row.counts for key, row in rows_of(reader.read()).items()
    }
    store.close()


def test_nothing_is_written_by_a_transaction_that_fails(store: Store) -> None:
    def fail() -> None:
        with store.writing(NOW_NS) as connection:
            add_dated(connection, [DatedAdd(KEYS[0], NOW_NS, 0, 1)], NOW_NS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.dated().read().rows == ()


def test_what_is_too_old_leaves_windows_and_stays_in_the_totals(store: Store) -> None:
    reader = store.dated()
    days = [NOW_NS - n * DAY_NS for n in range(40)]
    with store.writing(NOW_NS) as connection:
        add_dated(connection, [DatedAdd(KEYS[0], day, 1, 1) for day in days], NOW_NS)
    assert reader.read().rows[0].counts == Counts(0, 40, 0)
    with store.writing(NOW_NS) as connection:
        expire_dated(connection, NOW_NS - 35 * DAY_NS)
    for found in (reader.read(), store.dated().read()):
        assert found.rows[0].counts == Counts(0, 40, 0)
        assert found.rows[0].between(0, NOW_NS) == Counts(0, 35, 0)
    with store.writing(NOW_NS) as connection:
        add_dated(connection, [DatedAdd(KEYS[0], NOW_NS, 0, 2)], NOW_NS)
    assert reader.read().rows[0].counts == Counts(2, 40, 0)


def test_corrections_count_and_are_kept_apart(store: Store) -> None:
    with store.writing(NOW_NS) as connection:
        add_dated(connection, [DatedAdd(KEYS[0], NOW_NS, 0, 3)], NOW_NS)
        taken = DatedAdd(KEYS[0], NOW_NS, 0, -1, correction=True)
        add_dated(connection, [taken, DatedAdd(KEYS[0], NOW_NS, 1, 1, correction=True)], NOW_NS)
    assert store.dated().read().rows[0].counts == Counts(2, 1, 0)
    assert corrections(store._fetch, KEYS[0], 0) == 1


def test_an_older_history_has_none(store: Store, tmp_path) -> None:
    reader = store.dated()
    assert reader.read().rows == ()
    with sqlite3.connect(tmp_path / "older.db") as older:
        older.execute("CREATE TABLE meta (key, value)")
    assert type(reader)(lambda sql, parameters: older.execute(sql, parameters).fetchall()).read().rows == ()


def test_of_its_losses_a_row_tells_what_its_group_says() -> None:
    reasons = ("good", "wrong", *[""] * 14)
    for group, route, version in (
        (None, "", ""),
        ("(overflow)", "", ""),
        ("version=2%2C5,tier=gold", "", "2,5"),
        ("route=/a=b,version=(unknown)", "/a=b", "(unknown)"),
    ):
        row = DatedRow(RowKey("labels", "m", group, reasons), 0, {SLOT_NS: [5, 3, *[0] * 14]})
        (one,) = row.losses(0, 0)
        assert (one.loss.reason, one.loss.count, one.loss.route, one.loss.version) == ("wrong", 3, route, version)


# ── through the engine ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def dated(make_engine):
    """An engine that leads, with one objective whose events are counted in the history; and how to count some."""

    def make(**objective):
        slo = SLO("labels", indicator="accuracy", target="99%", **objective)
        engine = make_engine(slo, geometry=Geometry(max_blocks=4, snapshots=4))
        engine.channels = {
            "ops": ("webhook", {"url": "http://127.0.0.1:9/", "allow_http": True, "allow_private": True})
        }
        engine.runner.tick()
        assert engine.runner.leading
        key = RowKey(slo.name, slo.meaning, None, slo.reason_cells).text()
        cells = {"good": 0, "bad": slo.cell(Outcome("bad", "wrong")), "excluded": slo.cell(Outcome("excluded", "x"))}

        def count(at_wall_ns, **outcomes):
            store = engine.runner.store
            with store.writing(engine.clock.wall_ns()) as connection:
                entries = [DatedAdd(key, at_wall_ns, cells[name], n) for name, n in outcomes.items()]
                add_dated(connection, entries, engine.clock.wall_ns())

        return engine, count

    return make


def test_statuses_see_them_like_any_row(dated) -> None:
    engine, count = dated()
    now = engine.clock.wall_ns()
    count(now - 2 * HOUR_NS, good=90, bad=10, excluded=5)
    advance(engine, s=60)
    (status,) = engine.status()
    assert status.counts == Counts(90, 10, 5)
    assert status.burn["1h"] is None
    assert status.burn["6h"] == 10
    assert "labels" not in {engine.ring.reader.row_name(row).slo for row in range(engine.ring.reader.rows)}


def test_a_window_that_is_long_closed_is_revised(dated) -> None:
    engine, count = dated()
    long_ago = engine.clock.wall_ns() - 3 * DAY_NS
    count(long_ago, good=100)
    advance(engine, s=60)
    assert engine.status()[0].met is True
    count(long_ago, good=-50, bad=50)
    advance(engine, s=60)
    assert engine.status()[0].counts == Counts(50, 50)
    assert engine.status()[0].met is False


def test_closed_slices_are_revised_too(dated) -> None:
    engine, count = dated(budgeting="timeslices", slice="1h", slice_target="90%")
    start = engine.clock.wall_ns() // HOUR_NS * HOUR_NS - 5 * HOUR_NS
    for hour in range(4):
        count(start + hour * HOUR_NS, good=10)
    advance(engine, s=60)
    engine.runner.tick()
    assert engine.status()[0].counts.valid == 4
    assert engine.runner.leader._book is not None
    count(start + HOUR_NS, good=-5, bad=5)
    advance(engine, s=60)
    engine.runner.tick()
    assert engine.status()[0].counts == Counts(3, 1, engine.status()[0].counts.excluded)


def test_alerts_are_decided_from_them(dated) -> None:
    engine, count = dated(alerts={"guard": "off"})
    count(engine.clock.wall_ns() - MINUTE_NS, good=50, bad=50)
    advance(engine, s=20)
    engine.runner.tick()
    firing = {key[2] for key, data in engine.runner.store.notes.alerts().items() if data["state"] == "firing"}
    assert "ticket-fast" in firing
    notices = [Notice.from_json(json.loads(parcel.payload)) for parcel in engine.runner.store.notes.parcels()]
    (told,) = [notice for notice in notices if notice.alert == "ticket-fast"]
    assert "By reason: 100% wrong" in told.text
    assert "all 50 bad events are accounted for" in told.text
