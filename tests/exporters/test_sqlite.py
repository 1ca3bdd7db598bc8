"""The store as its callers see it: round trips, who may write, what never goes back, what is kept how long."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.errors import DefinitionError, StateError
from otelslo.exporters import load, members
from otelslo.exporters import sqlite_schema as schema_module
from otelslo.exporters.sqlite import Fenced, Outdated, Reader, Store, StoreUnavailable
from otelslo.exporters.sqlite_reader import pack_buckets, unpack_buckets
from otelslo.snapshot import BUCKET_WORDS, WORD_BYTES, Loss, SlotClose

from .snapshots import (
    RING_B,
    RING_START_NS,
    SLOT_NS,
    WALL_OFFSET_NS,
    WALL_START_NS,
    all_slots,
    cells_of,
    close_of,
    loss_of,
    same_totals,
    snapshot,
    statuses,
)

HOUR_NS = 3600 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "otelslo.db"


@pytest.fixture
def store(path: Path):
    store = Store(path)
    assert store.open(WALL_START_NS) == []
    yield store
    store.close()


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


def test_a_new_store_is_private_and_empty(store: Store, path: Path) -> None:
    assert stat.S_IMODE(os.stat(path.parent).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(path.parent) == ["otelslo.db"]
    assert store.load() is None
    assert store.needs_full
    assert store.losses() == store.budgets("slo-0") == store.journal() == []


def test_round_trip(store: Store, path: Path) -> None:
    fencing = store.acquire_leadership("worker-0", WALL_START_NS)
    for seq in range(1, 6):
        store.commit(snapshot(seq, rows=2 + seq), fencing, statuses(seq))
    for reader in (store, Reader(path)):
        saved = reader.load()
        assert same_totals(saved, snapshot(5, rows=7))
        assert saved.closed_ns == close_of(0, 5).slot_start_ns
        assert saved.clock == ((snapshot(1).at_ns, WALL_OFFSET_NS),)
        assert list(saved.slots(1, 0, 2**62)) == [close_of(1, seq) for seq in range(1, 6)]
        between = saved.slots(1, close_of(1, 2).slot_start_ns, close_of(1, 4).slot_start_ns)
        assert list(between) == [close_of(1, 2), close_of(1, 3)]


def test_slots_are_read_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for seq in range(1, 11):
        store.commit(snapshot(seq), 1)
    for page_rows in (1, 3, 5, 10, 11):
        monkeypatch.setattr("otelslo.exporters.sqlite_reader._PAGE_ROWS", page_rows)
        saved = store.load()
        assert list(saved.slots(2, 0, 2**62)) == [close_of(2, seq) for seq in range(1, 11)]


def test_committing_the_same_again_changes_nothing_but_the_commit_number(store: Store, path: Path) -> None:
    def without_number() -> list[str]:
        return [line for line in dump(path) if not line.startswith('INSERT INTO "latest"')]

    store.commit(snapshot(1), 1, statuses(1))
    before = without_number()
    store.commit(snapshot(1), 1, statuses(1))
    assert without_number() == before
    assert same_totals(store.load(), snapshot(1))


def test_config_history_grows_only_when_it_changes(store: Store, path: Path) -> None:
    for seq, config in enumerate(["{}", "{}", '{"a": 1}', '{"a": 1}'], start=1):
        store.commit(snapshot(seq, config=config), 1)
    assert store.load().config == '{"a": 1}'
    assert sum(line.startswith('INSERT INTO "configs"') for line in dump(path)) == 2


def test_a_step_of_the_wall_clock_enters_the_clock_table_and_noise_does_not(store: Store) -> None:
    for seq, step_ns in enumerate([0, 900_000, -900_000, 3600 * 10**9], start=1):
        store.commit(snapshot(seq, wall_offset_ns=WALL_OFFSET_NS + step_ns), 1)
    assert [offset_ns - WALL_OFFSET_NS for _, offset_ns in store.load().clock] == [0, 3600 * 10**9]


def test_a_leader_of_a_lost_file_is_fenced_by_the_next(path: Path) -> None:
    old = Store(path)
    lost = old.acquire_leadership("old", WALL_START_NS)
    os.unlink(path)
    new = Store(path)
    number = new.acquire_leadership("new", WALL_START_NS + 1)
    new.commit(snapshot(1), number)
    with pytest.raises(Fenced):
        old.commit(snapshot(2), lost)
    old.close()
    new.close()


def test_fencing_numbers_grow_and_fence(path: Path) -> None:
    old, new = Store(path), Store(path)
    old.open(WALL_START_NS)
    new.open(WALL_START_NS)
    first = old.acquire_leadership("old", WALL_START_NS)
    old.commit(snapshot(1), first)
    second = new.acquire_leadership("new", WALL_START_NS)
    assert second > first
    with pytest.raises(Fenced, match="new leads with number"):
        old.commit(snapshot(2), first)
    assert same_totals(new.load(), snapshot(1))
    new.commit(snapshot(2), second)
    assert old.acquire_leadership("old", WALL_START_NS) == second + 1
    old.close()
    new.close()


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (snapshot(4), "5 is committed"),
        (snapshot(6, cells=cells_of(4, 3)), "counts less"),
        (snapshot(6, rows=2), "counts less"),
        (snapshot(6, row_keys=("x", "y", "z")), "row_keys must only grow"),
        (snapshot(6, births_ns=(1, 2, 3)), "births_ns must only grow"),
        (snapshot(6, histogram_keys=("two", "one")), "histogram_keys must only grow"),
    ],
)
def test_history_never_goes_back(store: Store, path: Path, offered, why: str) -> None:
    store.commit(snapshot(5), 1)
    before = dump(path)
    with pytest.raises(Outdated, match=why):
        store.commit(offered, 1)
    assert dump(path) == before
    store.commit(snapshot(6), 1)


def test_another_ring_starts_anew_and_the_last_to_commit_is_loaded(store: Store) -> None:
    store.commit(snapshot(5), 1)
    store.commit(snapshot(1, ring_id=RING_B, row_keys=("x", "y", "z")), 1)
    assert store.load().ring_id == RING_B
    assert list(all_slots(store).values()) == [close_of(row, 1) for row in range(3)]
    store.commit(snapshot(6), 1)
    assert same_totals(store.load(), snapshot(6))


def test_a_trace_id_that_comes_later_is_entered_in_its_loss(store: Store) -> None:
    traced = loss_of(1)
    bare = replace(traced, trace_id="")
    store.commit(snapshot(1, losses=(bare,)), 1)
    store.commit(snapshot(2, losses=(traced,)), 1)
    assert [found.loss for found in store.losses()] == [traced]
    store.commit(snapshot(3, losses=(bare, loss_of(2))), 1)
    store.commit(snapshot(4, losses=(replace(traced, trace_id="u" * 32),)), 1)
    assert [found.loss for found in store.losses()] == [loss_of(2), traced]


def test_equal_losses_of_different_traces_are_added_up(store: Store) -> None:
    losses = tuple(replace(loss_of(1), trace_id=trace_id) for trace_id in ("", "a" * 32, "b" * 32))
    store.commit(snapshot(1, losses=losses), 1)
    assert [found.loss for found in store.losses()] == [replace(losses[1], count=3)]


def test_losses_offered_again_are_not_counted_twice(store: Store) -> None:
    equal = (loss_of(1), loss_of(1), loss_of(1, row=1, count=7))
    store.commit(snapshot(1, losses=equal), 1)
    store.commit(snapshot(2, losses=(*equal, loss_of(2))), 1)
    found = store.losses()
    assert [(loss.loss.row, loss.loss.count) for loss in found] == [(0, 1), (1, 7), (0, 2)]
    assert found[0].loss == loss_of(2)
    assert found[0].wall_ns == loss_of(2).at_ns + WALL_OFFSET_NS
    assert found[1].row_key == snapshot(1).row_keys[1]
    assert store.losses(limit=1) == found[:1]
    assert store.losses(since_wall_ns=found[0].wall_ns) == found[:1]


def test_a_loss_with_text_that_no_database_takes(store: Store) -> None:
    odd = Loss(RING_START_NS, 0, "5xx", 1, "/\udcff\x00'", 500, "E\ud800", "", 0, "", "w")
    store.commit(snapshot(1, losses=(odd,)), 1)
    assert store.losses()[0].loss == replace(odd, route="/?\x00'", exception="E?")


def test_budget_history_by_five_minutes_and_by_hour(store: Store) -> None:
    for seq in range(1, 15):
        store.commit(snapshot(seq), 1, statuses(seq))
        store.commit(snapshot(seq), 1, statuses(seq, group="route=/x"))
    fine = store.budgets("slo-0", groups=[None])
    assert [point.good for point in fine] == [seq * 10 for seq in range(1, 15)]
    assert fine[0].wall_ns == WALL_START_NS + SLOT_NS
    assert (fine[0].group, fine[0].target, fine[0].window, fine[0].bad, fine[0].excluded) == (None, 0.999, "30d", 1, 1)
    hourly = store.budgets("slo-0", groups=["route=/x"], span_ns=HOUR_NS)
    assert [point.wall_ns % HOUR_NS for point in hourly] == [0] * len(hourly)
    assert hourly[-1].good == 140
    assert len(hourly) < len(fine)
    assert len(store.budgets("slo-0")) == 28
    assert store.budgets("slo-0", since_wall_ns=fine[-1].wall_ns, groups=[None]) == fine[-1:]
    assert store.budgets("other") == []


@pytest.mark.parametrize("bad", ["{}x", '{"slo": 1}', '[{"slo": "a"}]', "[1]", "null"])
def test_statuses_that_are_none_are_refused_before_anything_is_written(store: Store, bad: str) -> None:
    with pytest.raises(ValueError, match="statuses_json"):
        store.commit(snapshot(1), 1, bad)
    assert store.load() is None


def test_journal(store: Store, path: Path) -> None:
    store.append_journal("crash", "worker 3 was killed", WALL_START_NS)
    store.append_journal("annotation", "release 1.2", WALL_START_NS + 1)
    assert [entry.kind for entry in Reader(path).journal()] == ["annotation", "crash"]
    assert [entry.text for entry in store.journal(kind="crash")] == ["worker 3 was killed"]
    assert len(store.journal(since_wall_ns=WALL_START_NS + 1)) == 1


def test_full_is_remembered_across_restarts(store: Store, path: Path) -> None:
    store.commit(snapshot(1), 1)
    store.close()
    again = Store(path)
    again.open(WALL_START_NS)
    assert again.needs_full
    again.commit(snapshot(2), 1, full=True)
    assert not again.needs_full
    again.close()
    again.open(WALL_START_NS)
    assert not again.needs_full
    again.close()


def test_a_deleted_or_replaced_file_is_noticed_at_the_next_commit(store: Store, path: Path) -> None:
    fencing = store.acquire_leadership("worker-0", WALL_START_NS)
    store.commit(snapshot(1), fencing, full=True)
    os.unlink(path)
    store.commit(snapshot(2), fencing)
    assert store.needs_full
    assert "deleted or replaced" in store.take_notices()[0]
    assert "deleted or replaced" in store.journal(kind="store")[0].text
    assert all_slots(store).keys() == {(row, close_of(row, 2).slot_start_ns) for row in range(3)}
    everything = tuple(close_of(row, seq) for seq in (1, 2) for row in range(3))
    store.commit(snapshot(3, closes=everything), fencing, full=True)
    assert not store.needs_full
    assert len(all_slots(store)) == 6
    other = Store(path.with_name("other.db"))
    other.open(WALL_START_NS)
    other.commit(snapshot(9, ring_id=RING_B), 1, full=True)
    other.close()
    os.replace(other.path, path)
    store.commit(snapshot(4), fencing)
    assert same_totals(store.load(), snapshot(4))
    with pytest.raises(Fenced):
        store.commit(snapshot(5), fencing - 1)


def test_the_whole_directory_may_go(store: Store, path: Path) -> None:
    store.commit(snapshot(1), 1)
    os.unlink(path)
    for leftover in path.parent.iterdir():
        leftover.unlink()
    path.parent.rmdir()
    store.commit(snapshot(2), 1)
    assert same_totals(Reader(path).load(), snapshot(2))


def test_a_newer_schema_is_refused_and_left_alone(store: Store, path: Path) -> None:
    store.commit(snapshot(1), 1)
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    for attempt in (lambda: Store(path).open(WALL_START_NS), Reader(path).load):
        with pytest.raises(StateError, match=r"schema 99.*Upgrade otelslo") as refusal:
            attempt()
        assert not isinstance(refusal.value, StoreUnavailable)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.bad-*"))


def test_a_reader_creates_nothing_and_says_what_is_missing(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no database"):
        Reader(path).load()
    assert not path.parent.exists()


def test_a_locked_file_is_unavailable_until_it_is_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_module, "BUSY_TIMEOUT_S", 0.0)
    store = Store(path)
    store.open(WALL_START_NS)
    store.commit(snapshot(1), 1, full=True)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        store.commit(snapshot(2), 1)
    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        Reader(path).load()
    holder.execute("COMMIT")
    holder.execute("BEGIN")
    holder.execute("SELECT * FROM latest").fetchone()
    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):  # at COMMIT: a long reader
        store.commit(snapshot(2), 1)
    holder.close()
    store.commit(snapshot(2), 1)
    assert not store.needs_full
    assert same_totals(store.load(), snapshot(2))
    store.close()


def test_unusable_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        Store(tmp_path / "file" / "otelslo.db").open(WALL_START_NS)
    (tmp_path / "otelslo.db").mkdir()
    with pytest.raises(StoreUnavailable, match="not a regular file"):
        Store(tmp_path / "otelslo.db").open(WALL_START_NS)
    with pytest.raises(StateError, match=r"Call open"):
        Store(tmp_path / "never").load()


def test_values_that_do_not_fit_are_refused_and_nothing_is_kept(store: Store) -> None:
    with pytest.raises(OverflowError):
        store.commit(snapshot(1, closes=(SlotClose(0, RING_START_NS, 2**63, 0, 0),)), 1)
    assert store.load() is None
    with pytest.raises(ValueError, match="cells"):
        snapshot(1, cells=b"")
    with pytest.raises(ValueError, match="ring_id"):
        snapshot(1, ring_id="A" * 32)


@given(st.lists(st.sampled_from([0, 0, 0, 1, 255, 2**62]), min_size=0, max_size=4 * BUCKET_WORDS))
def test_packed_buckets_unpack_to_themselves(words: list[int]) -> None:
    words += [0] * (-len(words) % BUCKET_WORDS)
    raw = b"".join(word.to_bytes(WORD_BYTES, "little") for word in words)
    assert unpack_buckets(pack_buckets(raw)) == raw


def test_the_family_leaves_the_store_out() -> None:
    assert not [name for name in members() if name.startswith("sqlite")]
    with pytest.raises(DefinitionError, match="unknown exporter 'nowhere'"):
        load("nowhere")


def test_the_builder_is_what_the_tests_think_it_is() -> None:
    assert json.loads(statuses(3))[0]["bad"] == 3
    assert snapshot(3).wall_ns == WALL_START_NS + 3 * SLOT_NS + 5
    assert close_of(0, 1).slot_start_ns == RING_START_NS + SLOT_NS


def test_a_database_is_judged_in_one_view(path: Path, monkeypatch) -> None:
    """Opening while another process commits new rows must not take the mixture of before and after for damage."""
    monkeypatch.setattr(schema_module, "BUSY_TIMEOUT_S", 0.01)
    writer = Store(path)
    writer.open(WALL_START_NS)
    writer.commit(snapshot(1, rows=1), 1)
    other = Store(path)
    verify = other._verify

    def interrupted(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT * FROM ring_rows").fetchall()
        with pytest.raises(StoreUnavailable):  # the view holds until it has been judged
            writer.commit(snapshot(2, rows=40), 1)
        verify(connection)

    monkeypatch.setattr(other, "_verify", interrupted)
    assert other.open(WALL_START_NS) == []
    saved = other.load()
    assert saved is not None
    assert saved.seq == 1
