"""Opens the ring of a state directory: uses the file that is there, or makes one, rebuilt from what SQLite saved.

A file of an earlier boot, a damaged one or one too short for a configured window is set aside, never overwritten and
never silently replaced by zeros. Where no file can be had the ring lives in this process's memory, and says so.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.clock import Clock, SystemClock, boot_id, host_boot_ns
from otelslo.errors import StateError
from otelslo.kernels import layout as at
from otelslo.kernels.bounds import WORDS as HISTOGRAM_WORDS
from otelslo.ring import state
from otelslo.ring.blocks import Blocks
from otelslo.ring.directory import Directory
from otelslo.ring.geometry import Geometry, Header
from otelslo.ring.locks import FileLock, MakingLock
from otelslo.ring.memory import Memory
from otelslo.ring.reader import Reader, check
from otelslo.ring.salvage import saved_from
from otelslo.snapshot import Saved

if TYPE_CHECKING:
    from otelslo.kernels.ring import Kernels

_WALL_STEP_NS = 100_000_000  # a change of wall minus ring time worth an entry in the table


class Ring:
    """One ring as one process uses it; made by `open_ring`."""

    def __init__(
        self, memory: Memory, header: Header, kernels: Kernels, making: MakingLock, path: Path | None, clock: Clock
    ) -> None:
        self.header = header
        self.geometry = header.geometry
        self.kernels = kernels
        self.path = path
        self.memory = memory
        self.clock = clock
        if isinstance(clock, SystemClock):
            clock.epoch_ns = header.epoch_ns
        self.directory = Directory(memory, header.geometry, making, kernels.publish)
        locks = None if path is None else path.parent / state.LOCKS
        self.blocks = Blocks(memory, header, kernels, self.directory, making, locks, clock)
        self.reader = Reader(memory.words, header)
        self._making = making

    @property
    def row_bytes(self) -> int:
        return self.geometry.row_bytes

    @property
    def latency_row_bytes(self) -> int:
        return self.geometry.histogram_bytes

    @property
    def page(self) -> int:
        """Address of the private page: the first argument of every kernel."""
        return self.blocks.page.address

    def put(self, word_offset: int, value: int) -> None:
        """Set one of the mutable words (`layout.M_*`)."""
        self.kernels.publish(self.memory.base + word_offset, value)

    def note_wall(self, wall_ns: int) -> int | None:
        """Enter wall minus ring time into the table if it has moved; by how many ns it moved, if it did."""
        ring_ns = self.clock.ring_ns()
        offset = wall_ns - ring_ns
        entries = self.memory.words[at.M_CLOCK_ENTRIES // 8]
        moved = offset - self.reader.wall_offset_ns()
        if entries and abs(moved) < _WALL_STEP_NS:
            return None
        entry = at.M_CLOCK_TABLE + 16 * (entries % at.CLOCK_ENTRIES)
        self.put(entry, ring_ns)
        self.put(entry + 8, offset)
        self.put(at.M_CLOCK_ENTRIES, entries + 1)
        return moved if entries else None

    def file_is(self) -> str:
        """Whether the path leads to the mapped file: "ours", "missing" or "another"; somebody may have replaced it."""
        if self.path is None or self.memory.fd is None:
            return "ours"
        try:
            there = os.stat(self.path)
        except OSError:
            return "missing"
        mapped = os.fstat(self.memory.fd)
        return "ours" if (there.st_dev, there.st_ino) == (mapped.st_dev, mapped.st_ino) else "another"


def compile_kernels_for(directory: Path) -> Kernels:
    """The kernels, loaded from the state directory if another worker has compiled them, one worker at a time."""
    from otelslo.kernels.ring import compile_kernels

    try:
        state.prepare(directory)
        with MakingLock(directory / state.LOCKS / "compile"):
            return compile_kernels(directory)
    except (StateError, OSError):
        return compile_kernels()


def open_ring(
    directory: Path | None,
    geometry: Geometry,
    clock: Clock,
    kernels: Kernels,
    saved: Callable[[], Saved | None] = lambda: None,
) -> tuple[Ring, list[str]]:
    """The ring of `directory`, and what a person should know about how it was come by.

    Args:
        directory: None for a ring in this process's memory.
        saved: asked only if a file must be made.
    """
    notices: list[str] = []
    if directory is not None:
        try:
            state.prepare(directory)
            return _open_file(directory / state.RING_FILE, geometry, clock, kernels, saved, notices), notices
        except (StateError, OSError) as e:
            notices.append(
                f"no shared ring: {e}. Each worker now counts in its own memory, budgets are per worker "
                "and end with it. Give a writable directory by OTELSLO_STATE_DIR"
            )
    header = _new_header(geometry, clock, None)
    memory = Memory(None, geometry.most_bytes)
    _begin(memory, header)
    ring = Ring(memory, header, kernels, MakingLock(None), None, clock)
    ring.note_wall(clock.wall_ns())
    return ring, notices


def _open_file(
    path: Path,
    geometry: Geometry,
    clock: Clock,
    kernels: Kernels,
    saved: Callable[[], Saved | None],
    notices: list[str],
) -> Ring:
    making = MakingLock(path.parent / state.LOCKS / "ring")
    with making:
        header = _usable(path, clock, notices)
        if header is None:
            ring = _make(path, geometry, clock, kernels, making, saved(), notices)
        else:
            ring = _mapped(path, header, kernels, making, clock)
            if header.geometry.reach_ns < geometry.reach_ns:
                ring = _outgrown(ring, geometry, making, notices)
        moved = ring.note_wall(clock.wall_ns())
        if moved is not None:
            notices.append(f"the wall clock was stepped by {moved / 1e9:+.3f} s; no event or window moves with it")
    return ring


def _mapped(path: Path, header: Header, kernels: Kernels, making: MakingLock, clock: Clock) -> Ring:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    return Ring(Memory(fd, header.geometry.most_bytes), header, kernels, making, path, clock)


def _usable(path: Path, clock: Clock, notices: list[str]) -> Header | None:
    """The header of the file at `path` if it can be used; otherwise the file, if any, is set aside."""
    if not path.exists():
        return None
    why = "bad"
    try:
        header = check(path)
        if header.boot_id != boot_id() and not clock.manual:
            why = "old"
            raise StateError("it is of an earlier boot")
        return header
    except StateError as e:
        target = state.set_aside(path, why)
        notices.append(f"{path.name} was set aside as {target.name}: {e}")
        return None


def _outgrown(old: Ring, geometry: Geometry, making: MakingLock, notices: list[str]) -> Ring:
    """A longer ring with all that the old one holds, if no worker is alive; else the old one as it is."""
    assert old.path is not None
    if not _nobody_lives(old.path.parent, old.geometry):
        days = old.geometry.reach_ns // 86_400_000_000_000
        notices.append(
            f"live.ring reaches {days} days back, less than the longest window; it is made anew when all its workers "
            "have been stopped once. Until then that window counts what the ring holds"
        )
        return old
    old.blocks.settle_dead()
    saved = saved_from(old.reader, old.clock.ring_ns())
    target = state.set_aside(old.path, "short")
    notices.append(
        f"{old.path.name} was too short for the longest window; a longer one has all that it held, and it was "
        f"kept as {target.name}"
    )
    return _make(old.path, geometry, old.clock, old.kernels, making, saved, [])


def _nobody_lives(directory: Path, geometry: Geometry) -> bool:
    locks = [FileLock(directory / state.LOCKS / f"block-{i:03d}") for i in range(geometry.max_blocks)]
    try:
        return all(lock.acquire(wait=False) for lock in locks if lock.path.exists())
    finally:
        for lock in locks:
            lock.release()


def _new_header(geometry: Geometry, clock: Clock, saved: Saved | None, continues: bool = True) -> Header:
    """A header whose ring time equals Unix time, or goes on where the saved ring's was, by the wall clock.

    `continues`: the new ring takes the saved one's identity, under which its history and exported series go on.
    """
    now = clock.ring_ns() if clock.manual else clock.wall_ns()
    ring_id = uuid.uuid4().bytes
    if saved is not None:
        now = max(saved.at_ns, clock.wall_ns() - saved.wall_offset_ns)
        if continues:
            ring_id = bytes.fromhex(saved.ring_id)
        if clock.manual:
            now = clock.ring_ns()
    return Header(geometry, boot_id(), ring_id, now - host_boot_ns(), now, now if saved else 0)


def _begin(memory: Memory, header: Header) -> None:
    memory.bytes[: at.PAGE] = header.encode()
    memory.words[at.M_STRINGS_END // 8] = 8
    memory.words[at.M_FILE_END // 8] = header.geometry.fixed_bytes


def _make(
    path: Path,
    geometry: Geometry,
    clock: Clock,
    kernels: Kernels,
    making: MakingLock,
    saved: Saved | None,
    notices: list[str],
) -> Ring:
    """Build the file under a temporary name and rename it when it is whole; the caller holds the lock."""
    # Workers that still count in a file that somebody removed go on under its identity: the new ring needs its own.
    orphans = saved is not None and not _nobody_lives(path.parent, geometry)
    header = _new_header(geometry, clock, saved, continues=not orphans)
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        memory = Memory(fd, geometry.most_bytes)
        memory.reserve(0, geometry.fixed_bytes)
        _begin(memory, header)
        ring = Ring(memory, header, kernels, making, path, clock)
        if saved is not None:
            _restore(ring, saved)
            lost = (header.created_ns - saved.at_ns) / 1e9
            notices.append(
                f"live.ring was rebuilt from what was saved {lost:.1f} s ago: what was counted after that is lost, at "
                "most one flush interval (1 s) while a worker led; windows that begin before now are exact to 5 minutes"
            )
            if orphans:
                notices.append("workers that are still alive count in a ring that was removed: restart them to join")
        os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.close(fd)
        temporary.unlink(missing_ok=True)
        raise
    return ring


def _restore(ring: Ring, saved: Saved) -> None:
    """Write saved totals into block 0, which the first worker adopts, and saved boundaries into the coarse slots."""
    g, words = ring.geometry, ring.memory.words
    block = ring.directory.extent(g.block_table, 0, g.block_bytes)
    cells = memoryview(saved.cells).cast("q")
    buckets = memoryview(saved.buckets).cast("q")
    for i, (key, birth) in enumerate(zip(saved.row_keys, saved.births_ns, strict=True)):
        row = ring.directory.row(key, birth)
        start = (block + g.block_cells + at.ROW_CELLS_BYTES * row) // 8
        words[start : start + at.CELLS] = cells[at.CELLS * i : at.CELLS * (i + 1)]
        _restore_boundaries(ring, saved, row)
        hot = (g.row_hot + at.HOT_ENTRY * row + at.HOT_OPEN) // 8
        words[hot] = max(words[hot], saved.at_ns // g.fine_ns)
    for i, key in enumerate(saved.histogram_keys):
        histogram = ring.directory.histogram(key, ring.header.created_ns)
        start = (block + g.block_histograms + 8 * HISTOGRAM_WORDS * histogram) // 8
        words[start : start + HISTOGRAM_WORDS] = buckets[HISTOGRAM_WORDS * i : HISTOGRAM_WORDS * (i + 1)]
    words[at.M_BLOCKS_USED // 8] = 1
    words[at.M_COMMITTED_SEQ // 8] = saved.seq
    words[at.M_COMMITTED_NS // 8] = saved.at_ns


def _restore_boundaries(ring: Ring, saved: Saved, row: int) -> None:
    """Saved boundaries of a row, and one at the slot of the last commit: the newest saved one is its total there."""
    g = ring.geometry
    newest = saved.at_ns // g.coarse_ns
    start = max(0, newest - g.coarse_slots + 1) * g.coarse_ns
    last = (0, 0, 0)
    for close in saved.slots(row, start, saved.at_ns + 1):
        last = (close.good, close.bad, close.excluded)
        _put_boundary(ring, row, close.slot_start_ns // g.coarse_ns, last)
    _put_boundary(ring, row, newest, last)


def _put_boundary(ring: Ring, row: int, slot: int, totals: tuple[int, int, int]) -> None:
    g, words = ring.geometry, ring.memory.words
    extent = words[g.row_table // 8 + row // at.ROWS_PER_EXTENT]
    place = g.fine_slots + slot % g.coarse_slots
    first = (extent + place * at.BOUNDARY_STRIDE + (row % at.ROWS_PER_EXTENT) * at.CLASSES * 8) // 8
    lap = 1 + (slot // g.coarse_slots) % at.LAPS
    lap = lap - (1 << 16) if lap >= 1 << 15 else lap  # the word is signed
    for i, total in enumerate(totals):
        words[first + i] = (lap << at.LAP_SHIFT) | (total & at.COUNT_MASK)
