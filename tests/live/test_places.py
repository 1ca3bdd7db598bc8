"""Where the state directory cannot be used, is full, or the surroundings are bare, the app is served all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import otelslo

from .history import saved_counts
from .servers import Service, until
from .test_restart import await_commit, send, watch_of

NO_SHARED_RING = "no shared ring"
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'


def in_namespace() -> list[str]:
    """The start of a command that runs in a mount namespace of its own."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not permitted here")
    return ["unshare", "-m"]


def read_only(path: Path) -> list[str]:
    return [*in_namespace(), "sh", "-c", READ_ONLY, "sh", os.fspath(path)]


def without_override() -> list[str]:
    """Nobody, and root without its rights over others' files, is kept out by a directory's mode."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def assert_served_from_private_memory(service: Service) -> None:
    send(service, 100)
    for worker in service.workers:
        said = [line for line in service.said().splitlines() if line.startswith(f"{worker.pid} ")]
        assert sum(NO_SHARED_RING in line for line in said) == 1, said
        assert any("OTELSLO_STATE_DIR" in line for line in said)
    service.stop()
    assert "Traceback" not in service.said()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with Service(tmp_path, 1, state_dir=closed, prefix=without_override()) as service:
        assert_served_from_private_memory(service)
        assert list(closed.iterdir()) == []


def test_a_read_only_file_system_with_a_ring_on_it(tmp_path: Path) -> None:
    with Service(tmp_path, 1) as service:
        send(service, 50)
        service.stop()
    ring = (service.state_dir / "live.ring").read_bytes()
    with Service(tmp_path, 1, prefix=read_only(tmp_path / "state")) as service:
        assert_served_from_private_memory(service)
    assert (service.state_dir / "live.ring").read_bytes() == ring


def test_another_users_directory(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    theirs = tmp_path / "state"
    theirs.mkdir(mode=0o777)
    os.chown(theirs, 65534, 65534)
    with Service(tmp_path, 1) as service:
        assert_served_from_private_memory(service)
        assert list(theirs.iterdir()) == []


def test_without_a_home_and_with_a_read_only_install(tmp_path: Path) -> None:
    package = Path(otelslo.__file__).parent
    bare = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    with Service(tmp_path, 2, prefix=read_only(package), environment=bare) as service:
        counts = send(service, 200)
        watch = watch_of(service)
        until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        assert watch.counts("all") == counts
        service.stop()
        assert saved_counts(service.state_dir)["all"] == counts


# ── a full disk ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mount point for a small tmpfs."""
    point = tmp_path / "disk"
    point.mkdir()
    yield point
    subprocess.run(["umount", "-l", os.fspath(point)], capture_output=True, check=False)


def mount(disk: Path, kib: int) -> None:
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", os.fspath(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")


# Room for nothing, for the fixed part of a ring alone, and for all but the last histogram that a start needs.
@pytest.mark.parametrize(
    "kib",
    [
        256,
        2_100,
        7_000,
    ],
)
def test_a_disk_that_is_too_small_from_the_start(tmp_path: Path, disk: Path, kib: int) -> None:
    mount(disk, kib)
    with Service(tmp_path, 1, state_dir=disk / "state") as service:
        send(service, 100)
        assert all(worker.alive for worker in service.workers)
        assert "otelslo is off" not in service.said()
        if NO_SHARED_RING not in service.said():
            assert watch_of(service).counts("all").total == 100
        service.stop()


def test_a_disk_that_fills_up_and_is_freed_again(tmp_path: Path, disk: Path) -> None:
    mount(disk, 40_000)
    with Service(tmp_path, 2, state_dir=disk / "state") as service:
        first = send(service, 200)
        watch = watch_of(service)
        await_commit(watch)
        filler = disk / "filler"
        fill(filler)
        committed_ns = watch.fresh().committed_ns
        second = send(service, 400, 200, {"/ok": 5, "/boom": 3, "/items/7": 1, "/slow?ms=1": 1})
        until(lambda: "history is not written" in service.said(), "the leader meets the full disk")
        dead = service.workers[0]
        dead.kill()
        service.replace(dead)
        service.wait_ready()
        third = send(service, 100, 600)
        until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
        assert watch.counts("all") == first + second + third
        assert watch.fresh().committed_ns - committed_ns < 10**10
        filler.unlink()
        await_commit(watch)
        assert saved_counts(service.state_dir)["all"] == first + second + third
        assert all(worker.alive for worker in service.workers)
        service.stop()


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
