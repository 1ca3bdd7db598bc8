"""The inbox: records survive any death of their writer, nothing else is ever taken for one, and nothing is raised."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelslo.inbox import DIRECTORY, FAULT, Inbox, backlog, finished, spools, sweep
from otelslo.label_record import Cut, Label, Prediction, decoded, encoded

NOW_NS = 1_700_000_000 * 10**9
CLASSES = st.one_of(
    st.text(max_size=20), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)
NAMES = st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "backslashreplace").decode())
PREDICTIONS = st.builds(
    Prediction,
    NAMES,
    NAMES,
    st.integers(0, 2**62),
    st.none() | CLASSES,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
RECORDS = st.one_of(PREDICTIONS, st.builds(Label, NAMES, NAMES, st.integers(0, 2**62), CLASSES))
LABEL = Label("fraud", "7", NOW_NS, 1)


def records_of(data: bytes, *, ended: bool = True) -> list[Any]:
    return [record for record, _ in decoded(data, ended=ended)]


def read_all(state_dir: Path) -> list[Any]:
    return [record for path in spools(state_dir) for record in records_of(path.read_bytes())]


@pytest.fixture
def faults() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def inbox(tmp_path: Path, faults: list[tuple[str, str]]) -> Any:
    made = Inbox(tmp_path / "state", lambda *told: faults.append(told))
    yield made
    made.finish()


@given(st.lists(RECORDS, max_size=6))
def test_what_is_written_is_what_is_read(records: list[Any]) -> None:
    data = b"".join(map(encoded, records))
    found = records_of(data)
    assert found == records
    assert [type(one.output if isinstance(one, Prediction) else one.truth) for one in found] == [
        type(one.output if isinstance(one, Prediction) else one.truth) for one in records
    ]


@given(st.lists(RECORDS, min_size=1, max_size=3), st.data())
def test_a_record_cut_at_any_byte_hides_no_other(records: list[Any], data: Any) -> None:
    whole = list(map(encoded, records))
    torn = data.draw(st.integers(0, len(records) - 1))
    cut = data.draw(st.integers(0, len(whole[torn]) - 1))
    pieces = [*whole[:torn], whole[torn][:cut], *whole[torn + 1 :]]
    found = records_of(b"".join(pieces))
    assert [one for one in found if not isinstance(one, Cut)] == [*records[:torn], *records[torn + 1 :]]
    assert sum(isinstance(one, Cut) for one in found) == (cut > 0)


def test_every_cut_of_every_byte_of_a_tail_waits_for_its_writer_and_is_skipped_when_he_is_gone() -> None:
    first, second = encoded(LABEL), encoded(Prediction("m", "\x1e\x1e", 1, "\x1e0000", None, {}))
    for cut in range(len(second)):
        data = first + second[:cut]
        assert records_of(data, ended=False) == [LABEL]
        assert records_of(data) == [LABEL, *([Cut(cut)] if cut else [])]


@given(st.lists(RECORDS, min_size=1, max_size=2), st.data())
def test_a_changed_byte_is_never_taken_for_a_record(records: list[Any], data: Any) -> None:
    raw = bytearray(b"".join(map(encoded, records)))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    assert all(isinstance(one, Cut) or one in records for one in records_of(bytes(raw)))


def test_garbage_that_is_longer_than_any_record_is_not_waited_for() -> None:
    assert records_of(b"\0" * 200_000, ended=False) == [Cut(200_000)]


def test_a_long_file_is_followed_by_another_and_let_go_of(tmp_path: Path, faults: list[Any]) -> None:
    inbox = Inbox(tmp_path / "state", lambda *told: faults.append(told), rotate_bytes=200)
    labels = [Label("m", str(n), NOW_NS, n) for n in range(10)]
    assert all(map(inbox.put, labels))
    files = spools(tmp_path / "state")
    assert len(files) > 1
    assert [finished(path) for path in files] == [True] * (len(files) - 1) + [False]
    inbox.finish()
    assert finished(files[-1])
    assert read_all(tmp_path / "state") == labels
    assert faults == []


def test_past_its_bound_records_are_dropped_and_counted_until_there_is_room(tmp_path: Path, faults: list[Any]) -> None:
    now = [0]
    arguments: Any = {"most_bytes": 300, "rotate_bytes": 100, "monotonic_ns": lambda: now[0]}
    inbox = Inbox(tmp_path, lambda *told: faults.append(told), **arguments)
    taken = [inbox.put(LABEL) for _ in range(20)]
    assert taken.index(False) == sum(taken)
    assert backlog(tmp_path) < 300 + 100 + len(encoded(LABEL))
    assert len(faults) == taken.count(False)
    assert "otelslo agent" in faults[0][1]
    for path in spools(tmp_path):
        path.unlink()
    now[0] += 2 * 10**9
    assert inbox.put(LABEL)
    inbox.finish()


def test_a_file_system_that_is_full_is_a_fault_and_later_records_are_read(inbox: Inbox, faults: list[Any]) -> None:
    assert inbox.put(LABEL)
    size = spools(inbox._state_dir)[0].stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        assert not inbox.put(LABEL)  # written in part
        assert not inbox.put(LABEL)  # not at all
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert inbox.put(Label("m", "8", NOW_NS, 0))
    assert [reason for reason, _ in faults] == [FAULT, FAULT]
    assert read_all(inbox._state_dir) == [LABEL, Cut(20), Label("m", "8", NOW_NS, 0)]


def test_a_small_disk_that_fills_up(tmp_path: Path, faults: list[Any]) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        inbox = Inbox(disk, lambda *told: faults.append(told))
        taken = [inbox.put(Label("m", str(n), NOW_NS, "x" * 100)) for n in range(1000)]
        inbox.finish()
        assert False in taken
        found = [one for one in read_all(disk) if not isinstance(one, Cut)]
        assert [one.id for one in found] == [str(n) for n, was in enumerate(taken) if was]
        assert len(faults) == taken.count(False)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_place_that_cannot_be_written_is_a_fault(tmp_path: Path, faults: list[Any]) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    inbox = Inbox(tmp_path / "state", lambda *told: faults.append(told))
    assert not inbox.put(LABEL)
    assert not inbox.put(LABEL)
    assert len(faults) == 2


def test_a_record_that_is_too_long_is_a_fault(inbox: Inbox, faults: list[Any]) -> None:
    assert not inbox.put(Label("m", "1", NOW_NS, "x" * 70_000))
    assert "longer than" in faults[0][1]


def test_threads_write_whole_records(tmp_path: Path, faults: list[Any]) -> None:
    inbox = Inbox(tmp_path / "state", lambda *told: faults.append(told), rotate_bytes=3000)

    def write(who: int) -> None:
        for n in range(400):
            inbox.put(Label("m", f"{who}-{n}", NOW_NS, "x" * (n % 50)))

    threads = [threading.Thread(target=write, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inbox.finish()
    found = read_all(tmp_path / "state")
    assert sorted(one.id for one in found) == sorted(f"{who}-{n}" for who in range(6) for n in range(400))
    assert all(finished(path) for path in spools(tmp_path / "state"))
    assert faults == []


def test_a_forked_child_has_a_file_of_its_own_and_holds_none_of_its_parents(inbox: Inbox) -> None:
    assert inbox.put(LABEL)
    (parents,) = spools(inbox._state_dir)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        inbox.put(Label("m", "child", NOW_NS, 1))
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert len(spools(inbox._state_dir)) == 2
        inbox.finish()
        assert finished(parents)  # while the child lives
        childs = spools(inbox._state_dir)[1]
        assert not finished(childs)
    finally:
        os.write(go[1], b".")
        os.waitpid(child, 0)
        for fd in (*ready, *go):
            os.close(fd)
    assert finished(childs)
    assert [one.id for one in read_all(inbox._state_dir)] == ["7", "child"]


def test_no_descriptor_goes_to_another_program(inbox: Inbox) -> None:
    assert inbox.put(LABEL)
    assert inbox._spool is not None
    assert fcntl.fcntl(inbox._spool.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


KILLED = """
import os, sys
from otelslo.inbox import Inbox
from otelslo.label_record import Label
inbox = Inbox(__import__("pathlib").Path(sys.argv[1]), lambda *told: None, rotate_bytes=4000)
for n in range(10**9):
    if inbox.put(Label("m", str(n), 1, n)):
        os.write(1, b"%d\\n" % n)
"""


def test_what_was_written_before_a_kill_is_there(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(500)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().splitlines()
    found = [int(one.id) for one in read_all(tmp_path) if not isinstance(one, Cut)]
    last = int(told[-1]) if told[-1].strip() else int(told[-2])
    assert found[: last + 1] == list(range(last + 1))
    assert len(found) - last - 1 <= 1  # written, and killed before it could say so
    assert all(finished(path) for path in spools(tmp_path))


def test_what_a_killed_writer_began_is_swept_away_later(inbox: Inbox) -> None:
    assert inbox.put(LABEL)
    unborn = inbox._state_dir / DIRECTORY / "1-2-3.new"
    unborn.touch()
    sweep(inbox._state_dir, unborn.stat().st_mtime + 60)
    assert unborn.exists()
    sweep(inbox._state_dir, unborn.stat().st_mtime + 7200)
    assert not unborn.exists()
    assert len(spools(inbox._state_dir)) == 1
