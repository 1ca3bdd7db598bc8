"""A ring made anew, from SQLite or from another ring: nothing that is old comes back as fresh, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from otelslo import SLO, Engine
from otelslo import clock as clocks
from otelslo.cli.history import SavedRows
from otelslo.clock import ManualClock, SystemClock
from otelslo.counts import Counts
from otelslo.exporters.sqlite import Reader
from otelslo.kernels.ring import compile_kernels
from otelslo.ring import salvage
from otelslo.ring.check import check
from otelslo.ring.geometry import Geometry
from otelslo.ring.opening import open_ring
from otelslo.rowkey import SELF, RowKey
from otelslo.snapshot import Saved

from .small_rings import SLOT_NS, SMALL, START_NS, Worker

SECOND_NS = 10**9
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
DAY_NS = DAY_S * SECOND_NS
HEADER = 4096
ROOMY = replace(SMALL, strings_bytes=1 << 14)
PAST = SLO("past", match={"kind": "call", "route": "past"})
BUSY = SLO("busy", match={"kind": "call", "route": "busy"})


def made(directory: Path, clock: ManualClock | SystemClock, *slos: SLO, geometry: Geometry | None = None) -> Engine:
    return Engine(slos or (PAST, BUSY), state_dir=directory, clock=clock, runner=False, geometry=geometry).start()


def count(engine: Engine, call: str, outcome: str, times: int = 1, latency_ns: int = 1_000) -> None:
    track = engine.track(call)
    for _ in range(times):
        engine.record(track, outcome, latency_ns)


def idle(engine: Engine, clock: ManualClock, days: int) -> None:
    """Days in which only the other objective has events, four a day."""
    for _ in range(4 * days):
        clock.advance(s=DAY_S // 4)
        engine.runner.tick()
        count(engine, "busy", "good")
    engine.runner.tick()


def lose_ring(engine: Engine) -> None:
    engine.close()
    (engine.state_dir / "live.ring").unlink()


def saved_in(directory: Path) -> Saved:
    saved = Reader(directory / "otelslo.db").load()
    assert saved is not None
    return saved


# ── the age of what is restored ────────────────────────────────────────────────────────────────────────────────────
def test_bad_events_older_than_the_window_stay_old(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock)
    count(engine, "past", "bad", 100)
    engine.runner.tick()
    idle(engine, clock, 45)
    assert engine.count("past", 30 * DAY_NS) == Counts()
    lose_ring(engine)
    saved = saved_in(tmp_path)
    row = [RowKey.parse(key).slo for key in saved.row_keys].index("past")
    assert SavedRows(saved).window(row, saved.at_ns - 30 * DAY_NS, saved.at_ns).counts == Counts()
    again = made(tmp_path, clock)
    assert any("rebuilt" in notice for notice in again.notices)
    assert again.count("past", 30 * DAY_NS) == Counts()
    assert again.count("past", 60 * DAY_NS).bad in (0, 100)  # past the ring's reach either is true
    assert again.count("busy", 30 * DAY_NS).good >= 119
    count(again, "past", "bad")
    assert again.count("past", 30 * DAY_NS) == Counts(bad=1)
    again.close()


def test_a_database_without_slots_gives_no_fresh_events(tmp_path: Path) -> None:
    """As an earlier version left it: every slot of an idle row was dropped with its age."""
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock)
    count(engine, "past", "bad", 100)
    engine.runner.tick()
    idle(engine, clock, 45)
    lose_ring(engine)
    with sqlite3.connect(tmp_path / "otelslo.db") as connection:
        connection.execute("DELETE FROM slots")
    connection.close()
    saved = saved_in(tmp_path)
    row = [RowKey.parse(key).slo for key in saved.row_keys].index("past")
    assert SavedRows(saved).window(row, saved.at_ns - 30 * DAY_NS, saved.at_ns).counts == Counts()
    again = made(tmp_path, clock)
    assert again.count("past", 30 * DAY_NS) == Counts()
    again.close()


def test_events_of_the_slot_of_birth_stay_in_it(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock)
    count(engine, "past", "bad", 7)
    engine.runner.tick()
    lose_ring(engine)
    clock.advance(s=HOUR_S)
    again = made(tmp_path, clock)
    assert again.count("past", 2 * HOUR_S * SECOND_NS) == Counts(bad=7)
    assert again.count("past", 50 * MINUTE_S * SECOND_NS) == Counts()
    again.close()


def test_a_row_idle_since_its_birth_keeps_its_first_events(tmp_path: Path) -> None:
    """No boundary was saved, for nothing had been counted before the current slot: they are fresh, and stay so."""
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock)
    engine.runner.tick()
    clock.advance(s=20 * DAY_S)
    engine.runner.tick()
    count(engine, "past", "bad", 7)
    engine.runner.tick()
    lose_ring(engine)
    again = made(tmp_path, clock)
    assert again.count("past", DAY_NS) == Counts(bad=7)
    again.close()


def test_a_window_that_begins_with_the_rebuild_is_empty(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock)
    clock.advance(s=MINUTE_S)
    engine.runner.tick()
    count(engine, "past", "bad", 7)
    engine.runner.tick()
    lose_ring(engine)
    again = made(tmp_path, clock)
    begun_ns = clock.ring_ns()
    clock.advance(s=1)
    row = again.objectives[0].rows[None]
    assert again.count_since(row, begun_ns) == Counts()
    assert again.ring.reader.window(row, begun_ns, clock.ring_ns()).counts == Counts()
    again.close()


def test_a_window_of_ninety_days_survives_a_rebuild(tmp_path: Path) -> None:
    slos = (SLO("past", window="90d", match={"kind": "call", "route": "past"}), BUSY)
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock, *slos)
    for _ in range(2):
        count(engine, "past", "bad", 100)
        engine.runner.tick()
        idle(engine, clock, 40)
    assert engine.count("past", 90 * DAY_NS) == Counts(bad=200)
    lose_ring(engine)
    again = made(tmp_path, clock, *slos)
    assert again.count("past", 90 * DAY_NS) == Counts(bad=200)
    assert again.count("past", 60 * DAY_NS) == Counts(bad=100)
    assert again.count("past", 30 * DAY_NS) == Counts()
    again.close()


def test_latencies_of_hours_ago_do_not_come_back(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock)
    count(engine, "past", "good", 1_000, latency_ns=5_000_000)
    engine.runner.tick()
    clock.advance(s=3 * HOUR_S)
    engine.runner.tick()
    lose_ring(engine)
    again = made(tmp_path, clock)
    for window_s in (MINUTE_S, 5 * MINUTE_S, 2 * HOUR_S):
        assert [one.events for one in again.traffic(window_s * SECOND_NS) if one.name == "past"] in ([], [0])
    count(again, "past", "good", 3, latency_ns=5_000_000)
    assert [one.events for one in again.traffic() if one.name == "past"] == [3]
    again.close()


def test_a_longer_ring_dates_what_the_old_one_counted_last(tmp_path: Path) -> None:
    """The old ring was not opened since: what came after its last boundary happened then, not today."""
    clock = ManualClock(START_NS)
    engine = made(tmp_path, clock)
    count(engine, "past", "bad", 9)
    engine.close()
    clock.advance(s=3 * DAY_S)
    longer = SLO("past", window="90d", match={"kind": "call", "route": "past"})
    again = made(tmp_path, clock, longer, BUSY)
    assert any("too short or too coarse" in notice for notice in again.notices)
    assert again.count("past", 90 * DAY_NS) == Counts(bad=9)
    assert again.count("past", DAY_NS) == Counts()
    again.close()


# ── an earlier boot ────────────────────────────────────────────────────────────────────────────────────────────────
def of_another_boot(ring: Path) -> None:
    ring.write_bytes(replace(check(ring), boot_id=b"another boot id!").encode() + ring.read_bytes()[HEADER:])


def rebooted(directory: Path, change: Callable[[], None] = lambda: None) -> Engine:
    """An engine over a ring of an earlier boot, that had counted 5 and of these committed 3."""
    engine = made(directory, SystemClock())
    count(engine, "past", "bad", 3)
    engine.runner.tick()
    engine.runner.leader.step_down()
    count(engine, "past", "bad", 2)
    engine.close()
    of_another_boot(directory / "live.ring")
    change()
    return made(directory, SystemClock())


def check_goes_on(engine: Engine, expected: int) -> None:
    assert engine.count("past", DAY_NS) == Counts(bad=expected)
    count(engine, "past", "bad")
    engine.runner.tick()
    assert engine.runner.leading
    assert engine.runner.leader._last_problem == ""
    assert engine.count("past", DAY_NS) == Counts(bad=expected + 1)
    saved = saved_in(engine.state_dir)
    assert saved.ring_id == engine.ring.header.ring_id.hex()
    row = [RowKey.parse(key).slo for key in saved.row_keys].index("past")
    assert SavedRows(saved).counts(row) == Counts(bad=expected + 1)
    engine.close()


def test_a_ring_of_an_earlier_boot_that_knows_more_than_the_history_is_carried_over(tmp_path: Path) -> None:
    engine = rebooted(tmp_path)
    assert any("no less than the history" in notice for notice in engine.notices)
    assert len(list(tmp_path.glob("live.ring.old-*"))) == 1
    wall_ns, ring_ns = engine.clock.wall_ns(), engine.clock.ring_ns() + engine.ring.reader.wall_offset_ns()
    assert abs(wall_ns - ring_ns) < SECOND_NS
    check_goes_on(engine, 5)


def test_a_ring_of_an_earlier_boot_without_a_history_is_carried_over(tmp_path: Path) -> None:
    engine = rebooted(tmp_path, (tmp_path / "otelslo.db").unlink)
    assert any("nothing was saved in the history" in notice for notice in engine.notices)
    check_goes_on(engine, 5)


def test_a_ring_of_an_earlier_boot_that_knows_less_gives_way_to_the_history(tmp_path: Path) -> None:
    engine = made(tmp_path, SystemClock())
    count(engine, "past", "bad", 3)
    engine.runner.tick()
    shutil.copy(tmp_path / "live.ring", tmp_path / "earlier")
    count(engine, "past", "bad", 2)
    engine.runner.tick()
    engine.close()
    shutil.move(tmp_path / "earlier", tmp_path / "live.ring")
    of_another_boot(tmp_path / "live.ring")
    again = made(tmp_path, SystemClock())
    assert any("holds less than the history" in notice for notice in again.notices)
    assert any("rebuilt" in notice for notice in again.notices)
    check_goes_on(again, 5)


def test_requests_in_flight_at_a_power_cut_are_booked(tmp_path: Path) -> None:
    worker = Worker(tmp_path, SystemClock())
    worker.begin()
    worker.ring.blocks.detach()
    of_another_boot(tmp_path / "live.ring")
    again = Worker(tmp_path, SystemClock())
    assert again.ring.reader.counts(again.rows[0]) == Counts(bad=1)
    assert again.ring.reader.in_flight() == 0


def test_a_boundary_above_todays_total_is_brought_down(tmp_path: Path) -> None:
    """After a power cut a page of boundaries may be younger than one of counters."""
    clock = ManualClock(START_NS)
    worker = Worker(tmp_path, clock)
    worker.end(worker.begin(), worker.bad)
    worker.advance(20 * SLOT_NS)
    worker.end(worker.begin(), worker.bad)
    worker.ring.memory.words[(worker.ring.blocks._offset(0) + SMALL.block_cells) // 8 + 1] = 0
    worker.advance(20 * SLOT_NS)
    saved = salvage.saved_from(worker.ring, clock.ring_ns())
    assert {close.bad for close in saved.slots(worker.rows[0], 0, 2**62)} == {0}


def test_that_budgets_begin_at_zero_is_said(tmp_path: Path) -> None:
    (tmp_path / "live.ring").write_bytes(b"no ring")
    _, notices = open_ring(tmp_path, SMALL, ManualClock(START_NS), compile_kernels())
    assert any("begin at zero" in notice for notice in notices)
    Worker(tmp_path, ManualClock(START_NS)).ring.blocks.detach()
    (tmp_path / "live.ring").unlink()
    _, notices = open_ring(tmp_path, SMALL, ManualClock(START_NS), compile_kernels())
    assert any("begin at zero" in notice for notice in notices)
    fresh = tmp_path / "fresh"
    _, notices = open_ring(fresh, SMALL, ManualClock(START_NS), compile_kernels())
    assert notices == []


def test_of_files_set_aside_the_newest_three_of_a_kind_stay(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / "live.ring").write_bytes(b"no ring %d" % number)
        Worker(tmp_path, ManualClock(START_NS))
        (tmp_path / "live.ring").unlink()
    kept = {path.read_bytes() for path in tmp_path.glob("live.ring.bad-*")}
    assert kept == {b"no ring 9", b"no ring 10", b"no ring 11"}


def test_a_full_disk_leaves_the_earlier_ring_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(tmp_path, SystemClock())
    count(engine, "past", "bad", 3)
    engine.close()
    of_another_boot(tmp_path / "live.ring")
    held = (tmp_path / "live.ring").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("otelslo.ring.memory.allocate", _no_room)
        ring, notices = open_ring(tmp_path, Geometry(), SystemClock(), compile_kernels())
    assert ring.path is None
    assert "no shared ring" in notices[-1]
    assert (tmp_path / "live.ring").stat().st_size == len(held)
    again = made(tmp_path, SystemClock())
    assert again.count("past", DAY_NS) == Counts(bad=3)
    again.close()


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


# ── boots known only by the wall clock ─────────────────────────────────────────────────────────────────────────────
class Wall:
    """What the fallback sees: a machine without boot ids, whose wall clock is stepped by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stepped_ns = 0
        monkeypatch.setattr(clocks, "_linux_boot_id", lambda: None)
        monkeypatch.setattr(clocks, "_macos_boot_id", lambda: None)
        original = clocks._approximate_boot_id
        monkeypatch.setattr(clocks, "_approximate_boot_id", lambda wall_ns: original(wall_ns + self.stepped_ns))


@pytest.mark.parametrize("step_s", [0, 1, -1, 61, -119, 119])
def test_small_steps_of_the_wall_are_the_same_boot(monkeypatch: pytest.MonkeyPatch, step_s: int) -> None:
    wall = Wall(monkeypatch)
    there = clocks.boot_id()
    assert len(there) == 16
    wall.stepped_ns = step_s * SECOND_NS
    assert clocks.same_boot(there)


def test_another_boot_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clocks.same_boot(clocks.boot_id())
    assert not clocks.same_boot(b"another boot id!")
    known = clocks.boot_id()
    wall = Wall(monkeypatch)
    assert not clocks.same_boot(known)
    there = clocks.boot_id()
    wall.stepped_ns = 200 * SECOND_NS
    assert not clocks.same_boot(there)


def test_a_live_ring_is_never_set_aside_for_a_step_of_the_wall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Wall(monkeypatch)
    first = Worker(tmp_path, SystemClock())
    first.end(first.begin(), first.bad)
    wall.stepped_ns = HOUR_S * SECOND_NS
    second = Worker(tmp_path, SystemClock())
    assert second.ring.file_is() == first.ring.file_is() == "ours"
    assert second.ring.reader.counts(second.rows[0]) == Counts(bad=1)
    for worker in (first, second):
        worker.ring.blocks.detach()
    third = Worker(tmp_path, SystemClock())  # nobody lives: it may be another boot, and is carried over
    assert third.ring.reader.counts(third.rows[0]) == Counts(bad=1)
    assert third.ring.file_is() == "ours"
    assert len(list(tmp_path.glob("live.ring.old-*"))) == 1


def test_a_live_ring_stays_where_only_one_process_knows_the_boot(tmp_path: Path) -> None:
    first = Worker(tmp_path, SystemClock())
    with pytest.MonkeyPatch.context() as patch:
        Wall(patch)
        second = Worker(tmp_path, SystemClock())
    assert second.ring.file_is() == first.ring.file_is() == "ours"


# ── dead rows ──────────────────────────────────────────────────────────────────────────────────────────────────────
def row_key(number: int, slo: str = "kept") -> str:
    return RowKey(slo, "", str(number), ("",) * 16).text()


def fill(directory: Path, clock: ManualClock, kept: int, dead: int, geometry: Geometry = ROOMY) -> Worker:
    worker = Worker(directory, clock, rows=0, geometry=geometry, attach=False)
    for number in range(kept):
        worker.ring.directory.row(row_key(number), clock.ring_ns())
    for number in range(dead):
        worker.ring.directory.row(row_key(number, "dead"), clock.ring_ns())
    worker.attach()
    return worker


def keep(key: str) -> bool:
    return RowKey.parse(key).slo == "kept"


def test_dead_rows_are_given_back_when_nobody_lives(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    worker = fill(tmp_path, clock, 10, 17)
    mine = worker.ring.directory.row(row_key(3), START_NS)
    plan = worker.plan([mine], 1)
    for _ in range(5):
        worker.record(plan, 1)
        worker.advance(4 * SLOT_NS)
    ring_id = worker.ring.header.ring_id
    kernels = compile_kernels()
    alive, notices = open_ring(tmp_path, ROOMY, clock, kernels, keep=keep)
    assert (alive.header.ring_id, alive.reader.rows, notices) == (ring_id, 27, [])
    worker.ring.blocks.detach()
    ring, notices = open_ring(tmp_path, ROOMY, clock, kernels, keep=keep)
    assert "17 rows that no objective wants" in notices[0]
    assert ring.header.ring_id != ring_id
    assert [ring.reader.row_key(row) for row in range(ring.reader.rows)] == [row_key(n) for n in range(10)]
    again = ring.directory.row(row_key(3), 0)
    for seconds, bad in ((30, 5), (9, 3), (5, 2), (1, 1), (0, 0)):
        assert ring.reader.window(again, clock.ring_ns() - seconds * SLOT_NS, clock.ring_ns()).counts.bad == bad
    same, notices = open_ring(tmp_path, ROOMY, clock, kernels, keep=keep)
    assert (same.header.ring_id, notices) == (ring.header.ring_id, [])


@pytest.mark.parametrize(("kept", "dead"), [(23, 0), (28, 0), (32, 0), (5, 18), (26, 1)])
def test_rows_stay_where_it_frees_little(tmp_path: Path, kept: int, dead: int) -> None:
    clock = ManualClock(START_NS)
    worker = fill(tmp_path, clock, kept, dead)
    worker.ring.blocks.detach()
    ring, notices = open_ring(tmp_path, ROOMY, clock, compile_kernels(), keep=keep)
    assert (ring.header.ring_id, notices) == (worker.ring.header.ring_id, [])


def test_in_a_full_directory_every_row_counts(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    fill(tmp_path, clock, 31, 1).ring.blocks.detach()
    ring, _ = open_ring(tmp_path, ROOMY, clock, compile_kernels(), keep=keep)
    assert ring.reader.rows == 31


def test_our_own_faults_are_always_wanted(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    worker = fill(tmp_path, clock, 0, 31)
    worker.ring.directory.row(row_key(0, SELF), clock.ring_ns())
    worker.ring.blocks.detach()
    ring, _ = open_ring(tmp_path, ROOMY, clock, compile_kernels(), keep=keep)
    assert [ring.reader.row_name(row).slo for row in range(ring.reader.rows)] == [SELF]


def test_strings_and_tracks_are_given_back_too(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    for number, use in enumerate((_use_strings, _use_tracks)):
        directory = tmp_path / str(number)
        worker = fill(directory, clock, 3, 2)
        use(worker)
        worker.ring.blocks.detach()
        ring, notices = open_ring(directory, ROOMY, clock, compile_kernels(), keep=keep)
        assert ring.reader.rows == 3, use
        assert "nearly full" in notices[0]


def _use_strings(worker: Worker) -> None:
    for number in range(1_000):
        worker.ring.directory.intern(f"version {number}")


def _use_tracks(worker: Worker) -> None:
    dead = worker.ring.directory.row(row_key(0, "dead"), START_NS)
    for number in range(ROOMY.max_tracks - 1):
        worker.ring.directory.track(f"track {number}", [1, -1, 0, 0, 0, 0, dead, 0, 0, 0])


def test_idle_histograms_do_not_cost_a_ring_its_identity(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    worker = fill(tmp_path, clock, 3, 0)
    for number in range(ROOMY.max_histograms - worker.ring.reader.histograms):
        worker.ring.directory.histogram(f"call {number}", START_NS)
    clock.advance(s=86_400)
    worker.ring.blocks.detach()
    ring, notices = open_ring(tmp_path, ROOMY, clock, compile_kernels(), keep=keep)
    assert (ring.header.ring_id, notices) == (worker.ring.header.ring_id, [])


def test_a_ring_that_goes_on_with_fewer_rows_has_its_own_history(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    slos = [SLO(f"s{number}", match={"kind": "call", "route": f"s{number}"}) for number in range(14)]
    geometry = replace(SMALL, max_rows=16, strings_bytes=1 << 16, max_tracks=64)
    engine = made(tmp_path, clock, *slos, geometry=geometry)
    for number in range(14):
        count(engine, f"s{number}", "bad", number + 1)
    engine.runner.tick()
    engine.close()
    before = saved_in(tmp_path)
    wanted = {RowKey.parse(key).slo for key in before.row_keys if key.find('"s1') >= 0} | {SELF}
    kernels = compile_kernels()
    open_ring(tmp_path, geometry, clock, kernels, keep=lambda key: RowKey.parse(key).slo in wanted)
    few = [slo for slo in slos if slo.name in wanted]
    again = made(tmp_path, clock, *few, geometry=geometry)
    again.runner.tick()
    assert again.runner.leader._last_problem == ""
    after = saved_in(tmp_path)
    assert after.ring_id != before.ring_id
    assert again.count("s13", DAY_NS) == Counts(bad=14)
    with sqlite3.connect(tmp_path / "otelslo.db") as connection:
        names = [json.loads(key)[0] for (key,) in connection.execute("SELECT key FROM ring_rows WHERE ring = 1")]
    connection.close()
    assert "s5" in names
    again.close()
