"""A truncated or garbled ring or database is set aside with a message; the app is served; nothing is silently zero."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from otelslo.counts import Counts
from otelslo.kernels import layout as at
from otelslo.ring.check import check

from .history import saved_counts
from .servers import Service, until
from .test_restart import send, watch_of
from .watch import Watch

SEED = 20264
Damage = Callable[[bytes], bytes]


def nothing(data: bytes) -> bytes:
    return b""


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def past_the_header(data: bytes) -> bytes:
    return data[: 4096 + 3]


def header(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data[:64]) + data[64:]


def noise(data: bytes) -> bytes:
    return random.Random(SEED).randbytes(len(data))


WHOLE = [nothing, half, past_the_header, header, noise]


@dataclass(frozen=True, slots=True)
class Past:
    """A state directory that has counted something, and what."""

    state_dir: Path
    ring_id: str
    counts: Counts

    def copy(self, directory: Path) -> Path:
        return Path(shutil.copytree(self.state_dir, directory / "state"))


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    with Service(tmp_path_factory.mktemp("past"), 1) as service:
        counts = send(service, 300)
        watch = watch_of(service)
        service.stop()
        assert saved_counts(service.state_dir)["all"] == counts == watch.counts("all")
        return Past(service.state_dir, watch.ring_id, counts)


def garble(path: Path, damage: Damage) -> bytes:
    path.write_bytes(damage(path.read_bytes()))
    return path.read_bytes()


def set_aside(state_dir: Path, name: str) -> list[bytes]:
    return [found.read_bytes() for found in state_dir.glob(f"{name}.bad-*") if not found.name.endswith("-journal")]


def serves(service: Service, watch: Watch, before: Counts) -> Counts:
    """Send some requests, see them counted on top of `before`; the new totals."""
    counts = before + send(service, 60, 1_000)
    until(lambda: watch.fresh().in_flight() == 0, "the last requests end")
    assert watch.counts("all") == watch.counts("twin") == counts
    return counts


@pytest.mark.parametrize("damage", WHOLE)
def test_a_damaged_ring_is_set_aside_and_rebuilt(tmp_path: Path, past: Past, damage: Damage) -> None:
    state_dir = past.copy(tmp_path)
    damaged = garble(state_dir / "live.ring", damage)
    with Service(tmp_path, 1) as service:
        watch = watch_of(service)
        assert (watch.ring_id, watch.counts("all")) == (past.ring_id, past.counts)
        assert set_aside(state_dir, "live.ring") == [damaged]
        assert service.said().count("live.ring was set aside as live.ring.bad-") == 1
        assert service.said().count("live.ring was rebuilt") == 1
        counts = serves(service, watch, past.counts)
        service.stop()
        assert saved_counts(state_dir)["all"] == counts


@pytest.mark.parametrize("damage", [nothing, half, header, noise])
def test_a_damaged_database_is_set_aside_and_filled_from_the_ring(tmp_path: Path, past: Past, damage: Damage) -> None:
    state_dir = past.copy(tmp_path)
    damaged = garble(state_dir / "otelslo.db", damage)
    with Service(tmp_path, 1) as service:
        watch = watch_of(service)
        assert (watch.ring_id, watch.counts("all")) == (past.ring_id, past.counts)
        counts = serves(service, watch, past.counts)
        until(lambda: "Kept as otelslo.db.bad-" in service.said(), "the leader opens the database")
        assert set_aside(state_dir, "otelslo.db") == [damaged]
        assert service.said().count("Kept as otelslo.db.bad-") == 1
        service.stop()
        assert saved_counts(state_dir)["all"] == counts


@pytest.mark.parametrize("damage", [nothing, noise])
def test_with_both_damaged_both_are_set_aside_and_it_is_said(tmp_path: Path, past: Past, damage: Damage) -> None:
    state_dir = past.copy(tmp_path)
    for name in ("live.ring", "otelslo.db"):
        garble(state_dir / name, damage)
    with Service(tmp_path, 1) as service:
        watch = watch_of(service)
        assert watch.ring_id != past.ring_id
        serves(service, watch, Counts())
        assert set_aside(state_dir, "live.ring")
        assert set_aside(state_dir, "otelslo.db")
        assert "live.ring was set aside" in service.said()
        assert "Kept as otelslo.db.bad-" in service.said()


def inside(offset: int, size: int) -> Damage:
    """Random bytes at one place of the file."""

    def damage(data: bytes) -> bytes:
        return data[:offset] + random.Random(SEED + offset).randbytes(size) + data[offset + size :]

    return damage


def leave_in_flight(path: Path) -> None:
    """One request of every track in flight in block 0, as a killed worker leaves them."""
    geometry = check(path).geometry
    data = bytearray(path.read_bytes())
    (block,) = struct.unpack_from("<q", data, geometry.block_table)
    (tracks,) = struct.unpack_from("<q", data, at.M_TRACKS_USED)
    for word in range(block + at.B_TRACKS, block + at.B_TRACKS + 16 * tracks, 16):
        (begun,) = struct.unpack_from("<q", data, word)
        struct.pack_into("<q", data, word, begun + 1)
    path.write_bytes(data)


@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize(
    "area", ["counters", "tables", "rows", "row_hot", "histograms", "histogram_hot", "tracks", "strings"]
)
def test_a_ring_garbled_inside_never_keeps_the_app_from_being_served(
    tmp_path: Path, past: Past, area: str, in_flight: bool
) -> None:
    state_dir = past.copy(tmp_path)
    geometry = check(state_dir / "live.ring").geometry
    if in_flight:
        leave_in_flight(state_dir / "live.ring")
    offset = {"counters": 4096, "tables": geometry.block_table}.get(area) or getattr(geometry, area)
    garble(state_dir / "live.ring", inside(offset, 256))
    with Service(tmp_path, 1) as service:
        counts = send(service, 60, 1_000)
        assert counts.total == 60
        watch = watch_of(service)
        if set_aside(state_dir, "live.ring"):
            assert watch.counts("all") == past.counts + counts
        service.stop()
