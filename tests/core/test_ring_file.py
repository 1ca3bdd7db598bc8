"""Ring files that are not as they should be: never a crash, never silently believed or overwritten; and full ones."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otelslo import SLO, CapacityError, Engine
from otelslo.clock import ManualClock
from otelslo.errors import StateError
from otelslo.kernels import layout as at
from otelslo.kernels.ring import compile_kernels
from otelslo.ring.check import check
from otelslo.ring.opening import open_ring

from .attacks import fork, wait_for
from .scenario_server import ScenarioServer
from .small_rings import FULL, SMALL, START_NS, TINY, Worker, forget


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ring with one good event in each of three rows."""
    directory = tmp_path_factory.mktemp("healthy")
    worker = Worker(directory, ManualClock(START_NS), geometry=TINY)
    worker.end(worker.begin(), worker.good)
    forget(worker.ring)
    return (directory / "live.ring").read_bytes()


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same with three requests in flight in a dead worker."""
    directory = tmp_path_factory.mktemp("cut_off")
    worker = Worker(directory, ManualClock(START_NS), geometry=TINY)
    worker.end(worker.begin(), worker.good)
    for _ in range(3):
        worker.begin()
    forget(worker.ring)
    return (directory / "live.ring").read_bytes()


def open_damaged(directory: Path, content: bytes) -> tuple[bool, list[str]]:
    """Whether a file of this content was believed, and what was said; it must be there, set aside, if it was not."""
    path = directory / "live.ring"
    path.write_bytes(content)
    worker = Worker(directory, ManualClock(START_NS), geometry=TINY)
    assert worker.end(worker.begin(), worker.good) >= 0
    counted = worker.ring.reader.counts(worker.rows[0]).good
    forget(worker.ring)
    aside = list(directory.glob("live.ring.*-*"))
    for kept in aside:
        assert kept.read_bytes() == content
        kept.unlink()
    path.unlink()
    assert counted == (1 if aside else 2)
    assert bool(worker.notices) == bool(aside)
    return not aside, worker.notices


def test_every_byte_of_the_header_flipped(tmp_path: Path, healthy: bytes) -> None:
    for i in range(0, at.PAGE, 1 if FULL else 13):
        content = bytearray(healthy)
        content[i] ^= 1 << random.Random(i).randrange(8)
        believed, _ = open_damaged(tmp_path, bytes(content))
        assert not believed, f"byte {i}"


def lengths(size: int) -> Iterator[int]:
    edges = {0, 1, 7, 8, 9, 4095, 4096, 4097, 4100, 4104, 8191, 8192, 8193, size - 1, size - 8, size - 4096}
    yield from sorted(edges | set(range(0, size, 1013 if FULL else 40_013)))


def test_truncated(tmp_path: Path, healthy: bytes) -> None:
    for length in lengths(len(healthy)):
        believed, notices = open_damaged(tmp_path, healthy[:length])
        assert not believed, f"{length} of {len(healthy)} bytes"
        assert "set aside" in notices[0]


def test_garbage(tmp_path: Path) -> None:
    rng = random.Random(7)
    for _ in range(300 if FULL else 30):
        believed, _ = open_damaged(tmp_path, rng.randbytes(rng.randrange(20_000)))
        assert not believed


@pytest.mark.parametrize(
    "word",
    [at.M_BLOCKS_USED, at.M_ROWS_USED, at.M_TRACKS_USED, at.M_HISTOGRAMS_USED, at.M_STRINGS_END, at.M_FILE_END],
)
@pytest.mark.parametrize("value", [-1, -(2**63), 2**63 - 1, 10**6, 10**9])
def test_counters_out_of_range(tmp_path: Path, healthy: bytes, word: int, value: int) -> None:
    content = bytearray(healthy)
    struct.pack_into("<q", content, word, value)
    believed, _ = open_damaged(tmp_path, bytes(content))
    assert not believed


def test_extents_out_of_range(tmp_path: Path, healthy: bytes) -> None:
    for table in (TINY.block_table, TINY.row_table, TINY.histogram_table):
        for value in (0, -4096, 4096, 1, len(healthy), 2**62):
            content = bytearray(healthy)
            struct.pack_into("<q", content, table, value)
            believed, _ = open_damaged(tmp_path, bytes(content))
            assert not believed, f"table {table}, {value}"


# What a crash is booked by: word of the first track's entry, and what must not stand there.
FIRST_ROW = at.PLAN_HEAD
BAD_PLANS = [
    *((at.PLAN_ROWS, value) for value in (-1, 65, 2**40, -(2**63))),
    *((at.PLAN_HISTOGRAM, value) for value in (-2, 1, 2**40)),
    *((FIRST_ROW, value) for value in (-1, 3, 2**40, -(2**40))),
    *((FIRST_ROW + 16, value) for value in (-1, 16, 2**40)),
    *((FIRST_ROW + 24, value) for value in (-1, 16, 2**40)),
    (FIRST_ROW + 2 * at.PLAN_ROW, 3),
]


@pytest.mark.parametrize(("word", "value"), BAD_PLANS)
def test_crash_plans_out_of_range(tmp_path: Path, cut_off: bytes, word: int, value: int) -> None:
    content = bytearray(cut_off)
    struct.pack_into("<q", content, TINY.tracks + word, value)
    with pytest.raises(StateError, match="books a crash in"):
        check(_written(tmp_path / "looked at", content))
    believed, _ = open_damaged(tmp_path, bytes(content))
    assert not believed


@pytest.mark.parametrize(("word", "value"), BAD_PLANS)
def test_crash_plans_that_go_bad_later_put_the_block_out_of_use(tmp_path: Path, word: int, value: int) -> None:
    """After the file was opened and found sound: no crash is booked, nothing outside is touched, others count on."""
    clock = ManualClock(START_NS)
    dead, here = Worker(tmp_path, clock, geometry=TINY), Worker(tmp_path, clock, geometry=TINY)
    dead.end(dead.begin(), dead.good)
    dead.begin()
    dead.ring.blocks.detach()
    here.ring.memory.words[(TINY.tracks + word) // 8] = value
    (settled,) = here.ring.blocks.settle_dead()
    assert (settled.damaged, settled.crashed) == (True, 0)
    assert here.ring.blocks.settle_dead() == []
    assert here.end(here.begin(), here.good) >= 0
    assert [here.ring.reader.cells(row)[:3] for row in here.rows] == [[2, 0, 0]] * 3


@pytest.mark.parametrize("born_open", [(-1, 5), (5, -1), (6, 5), (2**62, 2**62), (0, 2**63 - 1)])
@pytest.mark.parametrize("area", ["row_hot", "histogram_hot"])
def test_slots_beyond_all_time(tmp_path: Path, healthy: bytes, area: str, born_open: tuple[int, int]) -> None:
    content = bytearray(healthy)
    born, opened = born_open
    struct.pack_into("<q", content, getattr(TINY, area) + at.HOT_BIRTH_SLOT, born)
    struct.pack_into("<q", content, getattr(TINY, area) + at.HOT_OPEN, opened)
    believed, notices = open_damaged(tmp_path, bytes(content))
    assert not believed
    assert f"born in slot {born} and open at {opened}" in notices[0]


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_newer_layout_is_refused(tmp_path: Path, healthy: bytes) -> None:
    content = bytearray(healthy)
    struct.pack_into("<Q", content, at.H_VERSION, at.VERSION + 1)
    struct.pack_into("<q", content, at.H_CHECKSUM, zlib.crc32(content[: at.H_CHECKSUM]))
    (tmp_path / "other.ring").write_bytes(content)
    with pytest.raises(StateError, match=f"layout {at.VERSION + 1}, this version of otelslo reads layout {at.VERSION}"):
        check(tmp_path / "other.ring")
    believed, notices = open_damaged(tmp_path, bytes(content))
    assert not believed
    assert f"layout {at.VERSION + 1}" in notices[0]


@pytest.mark.torture
@pytest.mark.parametrize("left", ["healthy", "cut_off"])
def test_damage_behind_the_header_kills_and_hangs_nobody(
    tmp_path: Path, left: str, request: pytest.FixtureRequest
) -> None:
    """Bits of the data area flipped: no checksum can see it, so a number may be wrong, but the worker must live."""
    rng, sound = random.Random(8), request.getfixturevalue(left)
    for i in range(3000 if FULL else 150):
        content = bytearray(sound)
        for _ in range(rng.choice((1, 1, 8))):
            places = [rng.randrange(at.PAGE, TINY.fixed_bytes), rng.randrange(at.PAGE, len(content))]
            if left == "cut_off":  # the plan that its requests in flight are booked by
                places += [TINY.tracks + rng.randrange(at.PLAN_HEAD + 3 * at.PLAN_ROW)] * 2
            content[rng.choice(places)] ^= 1 << rng.randrange(8)
        directory = tmp_path / str(i)
        directory.mkdir()
        (directory / "live.ring").write_bytes(content)
        pid = fork(lambda directory=directory: _use(directory))
        assert wait_for(pid) == 0, f"mutation {i}"


def _use(directory: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (5, 5))  # a hang is a death
    worker = Worker(directory, ManualClock(START_NS + 3 * 10**9), geometry=TINY)
    worker.end(worker.begin(), worker.bad)
    reader = worker.ring.reader
    for row in range(reader.rows):
        reader.row_name(row)
        worker.kernels.count(worker.page, row, START_NS)
        reader.window(row, START_NS, worker.clock.ring_ns())
    for histogram in range(reader.histograms):
        reader.histogram_since(histogram, START_NS, worker.clock.ring_ns())
    for block in range(reader.blocks):
        reader.losses(block)
    worker.kernels.open_all(worker.page)


def test_an_entry_that_is_no_file(tmp_path: Path) -> None:
    for make in (Path.mkdir, lambda path: path.symlink_to("/etc/hostname")):
        path = tmp_path / "live.ring"
        make(path)
        ring, notices = open_ring(tmp_path, TINY, ManualClock(START_NS), compile_kernels())
        assert ring.path is None
        assert "no shared ring" in notices[0]
        assert os.path.lexists(path)
        path.unlink() if path.is_symlink() else path.rmdir()


# ── two in one process, and threads of one ─────────────────────────────────────────────────────────────────────────
def test_two_engines_in_one_process(tmp_path: Path) -> None:
    clock = ManualClock(START_NS)
    arguments: dict[str, Any] = {"state_dir": tmp_path, "clock": clock, "runner": False, "geometry": SMALL}
    slos = (SLO("availability", match={"kind": "call"}, window="1m"),)
    with Engine(slos, **arguments) as first, Engine(slos, **arguments) as second:
        for engine in (first, second, second):
            engine.record(engine.track("call"), "good", 1)
        assert first.ring.blocks.index != second.ring.blocks.index
        assert first.count("availability", 10**9).good == second.count("availability", 10**9).good == 3
        assert first.ring.blocks.settle_dead() == []


LAST_WORK = """
import atexit, sys
from pathlib import Path
from otelslo import SLO, Engine

def last_work():
    with open("own.bin", "wb") as own:
        with track_again():
            pass
        engine.housekeeping()  # new rows need more of the file
        print(engine.ring.file_is(), Path("own.bin").stat().st_size)

def track_again():
    from otelslo import track
    return track("again", engine=engine, version="2")

atexit.register(last_work)  # before the ring is there, so that it runs after whatever the ring might register
engine = Engine([SLO("calls", match={"kind": "call"}, group_by="version")], state_dir="state", runner=False).start()
"""


def test_an_app_that_counts_while_the_interpreter_ends_has_its_ring(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LAST_WORK], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ours", "0"], done.stderr
    check(tmp_path / "state" / "live.ring")


def test_attach_beside_a_settling_thread(tmp_path: Path) -> None:
    """A thread settles a dead block while another attaches: each must settle its own."""
    clock = ManualClock(START_NS)
    dead = [Worker(tmp_path, clock) for _ in range(2)]
    here = Worker(tmp_path, clock, attach=False)
    for corpse in dead:
        corpse.begin()
        corpse.ring.blocks.detach()
    settle = here.kernels.settle
    threads: list[threading.Thread] = []

    def interrupted(page: int) -> int:
        if not threads:
            threads.append(threading.Thread(target=here.ring.blocks.settle_dead))
            threads[0].start()
            threads[0].join(0.5)
        return settle(page)

    here.ring.blocks._kernels = here.kernels._replace(settle=interrupted)
    here.attach()
    threads[0].join()
    here.ring.blocks.settle_dead()
    assert here.ring.reader.in_flight() == 0
    assert [here.ring.reader.cells(row)[2] for row in here.rows] == [2, 2, 2]


# ── full ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_rows_histograms_tracks_and_blocks_run_out(tmp_path: Path) -> None:
    workers = [Worker(tmp_path, ManualClock(START_NS), geometry=TINY) for _ in range(TINY.max_blocks)]
    with pytest.raises(CapacityError, match="4 worker blocks"):
        Worker(tmp_path, ManualClock(START_NS), geometry=TINY)
    names = workers[0].ring.directory
    makers: tuple[tuple[int, Callable[[str], int]], ...] = (
        (TINY.max_rows, lambda name: names.row(name, START_NS)),
        (TINY.max_histograms, lambda name: names.histogram(name, START_NS)),
        (TINY.max_tracks, lambda name: names.track(name, [0, -1, 0, 0, 0, 0])),
    )
    for limit, make in makers:
        made = 1 if limit == TINY.max_histograms or limit == TINY.max_tracks else 3
        assert [make(f"name {i}") for i in range(limit - made)] == list(range(made, limit))
        with pytest.raises(CapacityError, match=f"room for {limit} "):
            make("one more")
    assert workers[1].end(workers[1].begin(), workers[1].good) >= 0
    assert workers[2].ring.reader.counts(workers[0].rows[0]).good == 1


def test_strings_run_out(tmp_path: Path) -> None:
    worker = Worker(tmp_path, ManualClock(START_NS), geometry=TINY)
    offsets = [worker.ring.directory.intern("x" * 100 + str(i)) for i in range(100)]
    assert offsets[0] > 0
    assert offsets[-1] == 0
    with pytest.raises(CapacityError, match="string area"):
        worker.ring.directory.row("y" * 5000, START_NS)
    assert worker.ring.reader.rows == 3
    assert worker.end(worker.begin(), worker.good) >= 0


@pytest.mark.skipif(os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="mounts a small tmpfs")
@pytest.mark.parametrize("size_kb", [4, 12, 40, 44, 48, 52, 56, 60, 64, 68, 72, 80, 120, 160])
def test_full_disk(tmp_path: Path, plain: ScenarioServer, size_kb: int) -> None:
    """Wherever the disk is full, no process dies of SIGBUS: an error in the cold path, or a ring in private memory."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        found = plain.run("lives:use_full_disk", directory=str(tmp_path / "state"))
        print(size_kb, found)
        assert found.startswith(("shared", "no shared ring", "no room"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
