"""The store under damage, kills, forks, full disks and failing system calls.

What must hold in all of them: opening never raises for a damaged file, nothing is lost without a notice, and what is
loaded is always exactly one committed snapshot, never an older one than was acknowledged.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

import pytest

from otelslo.exporters import sqlite_schema as schema_module
from otelslo.exporters.sqlite import Reader, Store, StoreUnavailable

from .snapshots import RING_A, RING_B, WALL_START_NS, close_of, loss_of, same_totals, snapshot, statuses

PROGRAM = Path(__file__).with_name("writer_process.py")
LAST = snapshot(40, rows=12)


def command(mode: str, path: Path, *numbers: int) -> list[str]:
    return [sys.executable, str(PROGRAM), mode, str(path), *map(str, numbers)]


def run(mode: str, path: Path, *numbers: int, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*before, *command(mode, path, *numbers)], capture_output=True, text=True, timeout=120)


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return str(verdict)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("healthy") / "otelslo.db"
    store = Store(path)
    store.open(WALL_START_NS)
    for seq in range(1, 41):
        store.commit(snapshot(seq, rows=12), 1, statuses(seq), full=True)
    store.close()
    return path.read_bytes()


def check_opening(path: Path, content: bytes) -> bool:
    """Open a file with this content; True if it was trusted, False if it was set aside."""
    path.write_bytes(content)
    store = Store(path)
    notices = store.open(WALL_START_NS)
    saved = store.load()
    aside = list(path.parent.glob("otelslo.db.bad-*"))
    if notices:
        assert saved is None
        assert store.needs_full
        assert [kept.read_bytes() for kept in aside if not kept.name.endswith("-journal")] == [content]
        assert [entry.text for entry in store.journal(kind="store")] == notices
    else:
        assert not aside
        assert same_totals(saved, LAST)
    store.commit(snapshot(41, rows=12), 1)
    assert same_totals(store.load(), snapshot(41, rows=12))
    store.close()
    return not notices


def mutations(content: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """Name, content, and whether it certainly has to be found out."""
    rng = random.Random(20261124)
    yield "empty", b"", True
    yield "one byte", content[:1], True
    for quarter in range(1, 4):
        yield f"{quarter} quarters", content[: len(content) * quarter // 4], True
        yield f"{quarter} quarters by pages", content[: len(content) // 4096 * quarter // 4 * 4096], True
    yield "without its last byte", content[:-1], False
    for length in (10, 512, 4096, 50_000):
        yield f"{length} random bytes", rng.randbytes(length), True
    yield "zeros", bytes(len(content)), True
    yield "text", b"not a database\n" * 500, True
    yield "zeroed header", bytes(100) + content[100:], True
    for page in range(len(content) // 4096):
        yield f"page {page} zeroed", content[: page * 4096] + bytes(4096) + content[(page + 1) * 4096 :], False
        yield f"page {page} random", content[: page * 4096] + rng.randbytes(4096) + content[(page + 1) * 4096 :], False
    for number in range(200):
        bit = rng.randrange(len(content) * 8) if number % 4 else rng.randrange(100 * 8)
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(flipped), False


def test_a_healthy_file_is_trusted(tmp_path: Path, healthy: bytes) -> None:
    assert check_opening(tmp_path / "otelslo.db", healthy)


def test_damage_is_set_aside_with_a_notice_or_has_not_touched_the_totals(tmp_path: Path, healthy: bytes) -> None:
    outcomes = []
    for number, (name, content, certain) in enumerate(mutations(healthy)):
        directory = tmp_path / str(number)
        directory.mkdir()
        trusted = check_opening(directory / "otelslo.db", content)
        assert not (trusted and certain), name
        outcomes.append(trusted)
        shutil.rmtree(directory)
    assert 0 < sum(outcomes) < len(outcomes)


def test_every_kept_file_keeps_its_own_name_and_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "otelslo.db"
    for number in range(3):
        path.write_bytes(b"bad %d" % number)
        Path(f"{path}-journal").write_bytes(b"journal %d" % number)
        schema_module._set_aside(path, WALL_START_NS, schema_module.file_identity(path), "bad")
    assert not path.exists()
    names = [f"otelslo.db.bad-20270115T080000Z{suffix}" for suffix in ("", "-1", "-2")]
    assert [(tmp_path / name).read_bytes() for name in names] == [b"bad 0", b"bad 1", b"bad 2"]
    assert [(tmp_path / f"{name}-journal").read_bytes() for name in names] == [b"journal %d" % n for n in range(3)]


def test_a_file_that_someone_else_has_just_replaced_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "otelslo.db"
    path.write_bytes(b"bad")
    judged = schema_module.file_identity(path)
    (tmp_path / "good").write_bytes(b"good")
    os.replace(tmp_path / "good", path)
    assert "replaced by someone else" in schema_module._set_aside(path, WALL_START_NS, judged, "bad")
    assert path.read_bytes() == b"good"


def test_a_journal_without_its_file_is_kept_away_from_the_next_one(tmp_path: Path, healthy: bytes) -> None:
    path = tmp_path / "otelslo.db"
    assert run("hot", path).returncode == -9
    assert os.stat(f"{path}-journal").st_size > 0
    os.unlink(path)
    store = Store(path)
    (notice,) = store.open(WALL_START_NS)
    assert "had left -journal" in notice
    assert store.load() is None
    store.close()
    assert integrity(path) == "ok"


def test_damage_found_while_running_is_set_aside_at_the_next_commit(tmp_path: Path, healthy: bytes) -> None:
    path = tmp_path / "otelslo.db"
    path.write_bytes(healthy)
    store = Store(path)
    assert store.open(WALL_START_NS) == []
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, os.urandom(len(healthy) - 4096), 4096)
    os.close(descriptor)
    outsider = sqlite3.connect(path)  # a change that makes the store's page cache stale
    outsider.execute("PRAGMA user_version = 1")
    outsider.close()
    with pytest.raises(StoreUnavailable, match="damaged"):
        store.commit(snapshot(41, rows=12), 1)
    store.commit(snapshot(41, rows=12), 1)
    assert store.needs_full
    assert "Kept as otelslo.db.bad-" in store.take_notices()[0]
    assert same_totals(store.load(), snapshot(41, rows=12))
    store.close()


def test_a_reader_reports_damage_and_touches_nothing(tmp_path: Path, healthy: bytes) -> None:
    path = tmp_path / "otelslo.db"
    content = healthy.replace(LAST.cells[:64], LAST.cells[1:65])
    assert content != healthy
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="do not match their checksum"):
        Reader(path).load()
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["otelslo.db"]


def test_a_reader_plays_back_the_journal_of_a_killed_writer(tmp_path: Path) -> None:
    path = tmp_path / "otelslo.db"
    assert run("hot", path).returncode == -9
    assert os.stat(f"{path}-journal").st_size > 0
    assert same_totals(Reader(path).load(), snapshot(1))
    assert integrity(path) == "ok"


def test_kill_9_leaves_a_committed_snapshot_and_none_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "otelslo.db"
    rng = random.Random(9)
    for _ in range(30):
        with subprocess.Popen(command("endless", path), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(rng.randrange(1, 8)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            acknowledged = int((process.stdout.read().split() or [acknowledged])[-1])
        saved = Reader(path).load()
        assert saved is not None
        assert acknowledged <= saved.seq <= acknowledged + 1
        assert same_totals(saved, snapshot(saved.seq, rows=40))
        assert [*saved.slots(39, 0, 2**62)] == [close_of(39, seq) for seq in range(1, saved.seq + 1)]
        assert len(Reader(path).losses(100_000)) == saved.seq
    assert integrity(path) == "ok"
    assert os.listdir(tmp_path) in (
        ["otelslo.db"],
        ["otelslo.db", "otelslo.db-journal"],
        ["otelslo.db-journal", "otelslo.db"],
    )


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "otelslo.db"
    processes = [subprocess.Popen(command("commits", path, number)) for number in (0, 1)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert integrity(path) == "ok"
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT ring_id, seq FROM latest JOIN rings USING (ring) ORDER BY ring_id").fetchall()
    assert found == [(RING_A, 200), (RING_B, 200)]
    assert connection.execute("SELECT count(*) FROM slots").fetchone() == (2 * 200 * 3,)
    assert connection.execute("SELECT max(committed) FROM latest").fetchone() == (400,)
    connection.close()
    assert len(Reader(path).losses(1000)) == 400


def test_forked_children_write_beside_a_committing_parent(tmp_path: Path) -> None:
    path = tmp_path / "otelslo.db"
    finished = run("forks", path)
    assert finished.returncode == 0, finished.stderr
    assert integrity(path) == "ok"
    assert sorted(int(entry.text) for entry in Reader(path).journal(kind="child")) == list(range(20))
    saved = Reader(path).load()
    assert same_totals(saved, snapshot(saved.seq, rows=40))


def test_a_file_size_limit_is_survived(tmp_path: Path) -> None:
    finished = run("starved", tmp_path / "otelslo.db")
    assert finished.returncode == 0, finished.stderr
    assert integrity(tmp_path / "otelslo.db") == "ok"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def has_room(file: RawIOBase, size: int) -> bool:
    try:
        file.write(bytes(size))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def test_a_full_disk_refuses_commits_until_there_is_room(small_disk: Path) -> None:
    store = Store(small_disk / "otelslo.db")
    store.open(WALL_START_NS)
    store.commit(snapshot(1), 1, full=True)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as fill:
        for size in (65536, 4096):
            while has_room(fill, size):
                pass
    pending = tuple(loss_of(2, route=f"/{number}") for number in range(500))
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"SQLITE_FULL|disk"):
            store.commit(snapshot(2, losses=pending), 1)
    fresh = Store(small_disk / "another.db")
    with pytest.raises(StoreUnavailable, match="Make room"):
        fresh.open(WALL_START_NS)
    filler.unlink()
    store.commit(snapshot(2, losses=pending), 1)
    assert same_totals(store.load(), snapshot(2))
    assert len(store.losses(1000)) == 501
    assert fresh.open(WALL_START_NS) == []
    store.close()
    fresh.close()
    assert integrity(small_disk / "otelslo.db") == "ok"
    assert not list(small_disk.glob("*.new-*"))


@pytest.mark.parametrize("fault", ["fsync,fdatasync:error=EIO", "pwrite64:error=EIO", "pwrite64:error=ENOSPC"])
def test_one_failing_system_call_after_the_other(tmp_path: Path, fault: str) -> None:
    calls = fault.partition(":")[0]
    tracer = ("strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}")
    if shutil.which("strace") is None or subprocess.run([*tracer, "true"], capture_output=True).returncode:
        pytest.skip("needs strace and the right to trace")
    failures = 0
    for when in range(1, 118, 9):  # the first dozens make the file
        path = tmp_path / f"{when}.db"
        finished = run("stubborn", path, before=(*tracer, "-e", f"inject={fault}:when={when}"))
        assert finished.returncode == 0, finished.stderr
        failures += int(finished.stdout)
        assert same_totals(Reader(path).load(), snapshot(10))
        assert len(Reader(path).losses(100)) == 10
        assert integrity(path) == "ok"
    assert failures > 0


def test_a_store_in_use_by_an_unclosed_journal_mode_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_module, "BUSY_TIMEOUT_S", 0.0)
    path = tmp_path / "otelslo.db"
    store = Store(path)
    store.open(WALL_START_NS)
    store.commit(snapshot(1), 1)
    store.close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN")
    other.execute("SELECT * FROM latest").fetchone()
    with pytest.raises(StoreUnavailable, match=str(path)):
        store.open(WALL_START_NS)
    other.close()
    assert store.open(WALL_START_NS) == []
    assert same_totals(store.load(), snapshot(1))
    store.close()
