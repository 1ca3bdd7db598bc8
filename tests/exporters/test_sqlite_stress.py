"""The shipped SQLite mode under stress: several writers and readers without a pause, some of them killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otelslo.exporters.sqlite import Reader, Store, StoreUnavailable

from .snapshots import WALL_START_NS, same_totals, snapshot
from .test_sqlite_faults import integrity

SECONDS = 60 if os.environ.get("OTELSLO_TORTURE") == "full" else 6
WRITERS = 3


def start(path: Path, number: int) -> subprocess.Popen[str]:
    program = [sys.executable, str(Path(__file__).with_name("writer_process.py")), "stress"]
    return subprocess.Popen([*program, str(path), str(number)], stdout=subprocess.PIPE, text=True)


def look(path: Path) -> bool:
    """Whether there was something to see; a reader may be kept out by writers that never pause."""
    try:
        saved = Reader(path).load()
    except StoreUnavailable:
        return False
    if saved is not None:
        assert same_totals(saved, snapshot(saved.seq, ring_id=saved.ring_id, rows=40))
    return saved is not None


@pytest.mark.torture
def test_writers_readers_and_kills(tmp_path: Path) -> None:
    """Nothing is set aside, every read is one whole commit, and the file is sound at the end."""
    path = tmp_path / "otelslo.db"
    Store(path).open(WALL_START_NS)
    rng = random.Random(20264)
    writers = [start(path, number) for number in range(WRITERS)]
    looks = kills = 0
    until, kill_at = time.monotonic() + SECONDS, time.monotonic() + 1
    try:
        while time.monotonic() < until:
            looks += look(path)
            if time.monotonic() > kill_at:
                kill_at = time.monotonic() + rng.uniform(0.2, 1.0)
                number = rng.randrange(WRITERS)
                writers[number].send_signal(signal.SIGKILL)
                writers[number].communicate()
                kills += 1
                writers[number] = start(path, number)
    finally:
        for writer in writers:
            writer.kill()
    acknowledged = [max(map(int, writer.communicate()[0].split() or ["0"])) for writer in writers]
    print(f"{looks} reads, {kills} kills, last commits acknowledged: {acknowledged}")
    assert looks > 0
    assert max(acknowledged) > 0
    assert not any(writer.poll() not in (None, -signal.SIGKILL) for writer in writers), "a writer has failed"
    assert integrity(path) == "ok"
    assert not list(tmp_path.glob("*.bad-*"))
