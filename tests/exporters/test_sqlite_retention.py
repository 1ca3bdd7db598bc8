"""What is kept how long, and that it goes in batches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelslo.exporters import sqlite_retention as retention_module
from otelslo.exporters.sqlite import Store

from .snapshots import RING_A, RING_B, SLOT_NS, WALL_START_NS, all_slots, close_of, loss_of, snapshot, statuses

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "otelslo.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    store.open(WALL_START_NS)
    yield store
    store.close()


def test_slots_go_with_their_age_a_batch_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "_WALK", 2)
    monkeypatch.setattr(retention_module, "_BATCH", 4)
    store = Store(path, retention_ns=10 * SLOT_NS)
    store.open(WALL_START_NS)
    store.commit(snapshot(1, closes=tuple(close_of(row, seq) for row in range(3) for seq in range(1, 31))), 1)
    store.commit(snapshot(31), 1)
    assert len(all_slots(store)) > 33
    for _ in range(20):
        store.commit(snapshot(31), 1)
    kept = {slot_start_ns for _, slot_start_ns in all_slots(store)}
    assert kept == {close_of(0, seq).slot_start_ns for seq in range(21, 32)}
    store.close()


def test_the_newest_slot_that_is_too_old_stays_in_each_row(path: Path) -> None:
    store = Store(path, retention_ns=10 * SLOT_NS)
    store.open(WALL_START_NS)
    store.commit(snapshot(1, closes=tuple(close_of(row, seq) for row in range(3) for seq in range(1, row + 2))), 1)
    for seq in range(100, 110):
        store.commit(snapshot(seq, closes=()), 1)
    assert set(all_slots(store)) == {(row, close_of(row, row + 1).slot_start_ns) for row in range(3)}
    store.close()


def test_slots_stay_for_the_longest_window_and_a_margin(path: Path) -> None:
    for asked, window_ns, kept_ns in (
        (None, 0, 35 * DAY_NS),
        (None, 30 * DAY_NS, 35 * DAY_NS),
        (None, 90 * DAY_NS, 95 * DAY_NS),
        (90 * DAY_NS, 90 * DAY_NS, 95 * DAY_NS),
        (400 * DAY_NS, 90 * DAY_NS, 400 * DAY_NS),
    ):
        assert Store(path, asked, window_ns)._retention.slots_ns == kept_ns


def test_budget_points_go_but_hourly_ones_stay(path: Path) -> None:
    store = Store(path, retention_ns=10 * SLOT_NS)
    store.open(WALL_START_NS)
    for seq in range(1, 41):
        store.commit(snapshot(seq), 1, statuses(seq))
    assert [point.bad for point in store.budgets("slo-0")] == list(range(31, 41))
    assert len(store.budgets("slo-0", span_ns=HOUR_NS)) == 4
    far = 401 * DAY_NS // SLOT_NS
    store.commit(snapshot(far), 1, statuses(far))
    assert len(store.budgets("slo-0", span_ns=HOUR_NS)) == 1
    store.close()


def test_losses_are_capped_by_count_and_age(store: Store) -> None:
    store._retention.losses = 50
    for seq in range(1, 11):
        store.commit(snapshot(seq, losses=tuple(loss_of(seq, route=f"/{n}") for n in range(20))), 1)
    found = store.losses(limit=1000)
    assert len(found) == 50
    assert {loss.loss.at_ns for loss in found} == {loss_of(seq).at_ns for seq in (8, 9, 10)}
    later = 36 * DAY_NS // SLOT_NS
    store.commit(snapshot(later), 1)
    assert [loss.loss for loss in store.losses()] == [loss_of(later)]


def test_a_ring_that_is_no_more_is_forgotten_but_not_the_last_one(store: Store, path: Path) -> None:
    store.commit(snapshot(1), 1)
    later = 36 * DAY_NS // SLOT_NS
    for seq in (later, later + 1):
        store.commit(snapshot(seq, ring_id=RING_B), 1)
    connection = sqlite3.connect(path)
    text = "\n".join(connection.iterdump())
    connection.close()
    assert RING_A not in text
    assert RING_B in text
    store.commit(snapshot(3 * later, ring_id=RING_B, closes=()), 1)
    assert store.load().ring_id == RING_B
