"""Opens the ring of a state directory: uses the file that is there, or makes one, rebuilt from what SQLite saved.

A damaged file is set aside, never overwritten and never silently replaced by zeros. A sound one that cannot go on as
it is (of an earlier boot, too short for a window, full of dead rows) hands over what it holds to a new one, and is kept
too. Where no file can be had the ring lives in this process's memory, and says so.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from otelslo.clock import Clock, SystemClock, boot_id, host_boot_ns, is_approximate, same_boot
from otelslo.errors import OtelsloError, StateError
from otelslo.kernels import layout as at
from otelslo.ring import state
from otelslo.ring.check import check
from otelslo.ring.geometry import Geometry, Header
from otelslo.ring.live import Ring
from otelslo.ring.locks import FileLock, MakingLock
from otelslo.ring.memory import Memory
from otelslo.ring.reader import open_reader
from otelslo.ring.salvage import Keep, forget_oldest, holds_all_of, restore, saved_from, without_dead_rows
from otelslo.snapshot import Saved

if TYPE_CHECKING:
    from otelslo.kernels.ring import Kernels


def compile_kernels_for(directory: Path) -> Kernels:
    """The kernels, loaded from the state directory if another worker has compiled them, one worker at a time.

    Raises:
        OtelsloError: this is a free-threaded Python.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise OtelsloError("a free-threaded Python is not supported: one writer per block rests on the GIL")
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
    keep: Keep | None = None,
) -> tuple[Ring, list[str]]:
    """The ring of `directory`, and what a person should know about how it was come by.

    Args:
        directory: None for a ring in this process's memory.
        saved: asked only if a file must be made.
        keep: whether the row of a key is still wanted. A ring nearly full, in which nobody lives, is made anew with
            those rows alone, under an identity of its own; None: no row is ever dropped.
    """
    notices: list[str] = []
    if directory is not None:
        try:
            state.prepare(directory)
            return _open_file(directory / state.RING_FILE, geometry, clock, kernels, saved, keep, notices), notices
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
    keep: Keep | None,
    notices: list[str],
) -> Ring:
    making = MakingLock(path.parent / state.LOCKS / "ring")
    with making:
        header = _usable(path, notices)
        if header is None:
            ring = _made_anew(path, geometry, clock, kernels, making, saved, notices)
        elif not _of_this_boot(path, header, clock):
            old = _mapped(path, _continued(path, clock), kernels, making, clock)
            ring = _carried_over(old, geometry, saved, notices)
        else:
            ring = _mapped(path, header, kernels, making, clock)
        if not ring.geometry.serves(geometry):
            ring = _outgrown(ring, geometry, notices)
        if keep is not None:
            ring = _cleared(ring, keep, notices)
        moved = ring.note_wall(clock.wall_ns())
        if moved is not None:
            notices.append(f"the wall clock was stepped by {moved / 1e9:+.3f} s; no event or window moves with it")
    return ring


def _mapped(path: Path, header: Header, kernels: Kernels, making: MakingLock, clock: Clock) -> Ring:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    return Ring(Memory(fd, header.geometry.most_bytes), header, kernels, making, path, clock)


def _usable(path: Path, notices: list[str]) -> Header | None:
    """The header of the file at `path` if it is sound; otherwise the file, if any, is set aside."""
    if not path.exists():
        return None
    try:
        return check(path)
    except StateError as e:
        target = state.set_aside(path, "bad")
        forget_oldest(path, "bad", target)
        notices.append(f"{path.name} was set aside as {target.name}: {e}")
        return None


def _made_anew(
    path: Path,
    geometry: Geometry,
    clock: Clock,
    kernels: Kernels,
    making: MakingLock,
    saved: Callable[[], Saved | None],
    notices: list[str],
) -> Ring:
    """A ring from what SQLite saved; that budgets begin at zero is said wherever there was something before."""
    traces = (path.parent / state.DATABASE_FILE, path.parent / state.LOCKS / "block-000")
    was_used = bool(notices) or any(trace.exists() for trace in traces)
    found = saved()
    if found is None and was_used:
        notices.append("nothing was saved to rebuild live.ring from: all budgets begin at zero now")
    return _make(path, geometry, clock, kernels, making, found, notices)


# ── sound files that cannot go on as they are ──────────────────────────────────────────────────────────────────────
def _of_this_boot(path: Path, header: Header, clock: Clock) -> bool:
    """A manual clock knows no boots; where a boot is known only by the wall clock, which may be stepped, a worker
    that lives in the ring is proof."""
    if clock.manual or same_boot(header.boot_id):
        return True
    in_doubt = is_approximate(header.boot_id) or is_approximate(boot_id())
    return in_doubt and not _nobody_lives(path.parent, header.geometry)


def _continued(path: Path, clock: Clock) -> Header:
    """The header of a ring of an earlier boot, its time going on by the wall clock, never back."""
    reader = open_reader(path)
    known_ns = max(reader.header.created_ns, reader.committed_ns, reader.leader_heartbeat_ns)
    now_ns = max(known_ns, clock.wall_ns() - reader.wall_offset_ns())
    return replace(reader.header, epoch_ns=now_ns - host_boot_ns())


def _carried_over(old: Ring, geometry: Geometry, saved: Callable[[], Saved | None], notices: list[str]) -> Ring:
    """A ring of this boot with all that one of an earlier boot holds, or what SQLite has if that is more."""
    old.blocks.settle_dead()
    held, database = saved_from(old, old.clock.ring_ns()), saved()
    if database is None:
        said = "is of an earlier boot and nothing was saved in the history: a new one has all that it held"
        return _replaced(old, geometry, held, "old", notices, said)
    if holds_all_of(held, database):
        said = "is of an earlier boot and no less than the history: a new one has all that it held"
        return _replaced(old, geometry, held, "old", notices, said)
    said = "is of an earlier boot and holds less than the history, or another one's counts: the history was taken"
    return _replaced(old, geometry, database, "old", notices, said, rebuilt=True)


def _outgrown(old: Ring, geometry: Geometry, notices: list[str]) -> Ring:
    """A longer ring with all that the old one holds, if no worker is alive; else the old one as it is."""
    assert old.path is not None
    if not _nobody_lives(old.path.parent, old.geometry):
        days, slot_s = old.geometry.reach_ns // 86_400_000_000_000, old.geometry.coarse_ns // 1_000_000_000
        notices.append(
            f"live.ring reaches {days} days back in slots of {slot_s} s, too little for the longest window or the "
            "shortest slice; it is made anew when all its workers have been stopped once, and counts on until then"
        )
        return old
    return _or_as_it_is(
        old,
        lambda: _replaced(
            old,
            geometry,
            _settled(old),
            "short",
            notices,
            "was too short or too coarse for the objectives: a new one has all",
        ),
        notices,
    )


def _cleared(old: Ring, keep: Keep, notices: list[str]) -> Ring:
    """The ring without rows that nobody wants, if it is nearly full and no worker is alive; else as it is.

    SQLite knows rows by the ring's identity and their number, which never change: fewer rows are another ring.
    """
    assert old.path is not None
    now_ns = old.clock.ring_ns()
    if without_dead_rows(old, now_ns, keep) is None or not _nobody_lives(old.path.parent, old.geometry):
        return old
    _settled(old)
    wanted = without_dead_rows(old, old.clock.ring_ns(), keep)
    if wanted is None:
        return old
    dropped = old.reader.rows - len(wanted.row_keys)
    said = f"was nearly full: a new one has all but {dropped} rows that no objective wants; the history keeps theirs"
    return _or_as_it_is(
        old, lambda: _replaced(old, old.geometry, wanted, "full", notices, said, continues=False), notices
    )


def _settled(old: Ring) -> Saved:
    """All that a ring of this boot holds, once its dead workers are settled; steps of the wall clock are noted first,
    or the next ring's time would jump by them."""
    old.note_wall(old.clock.wall_ns())
    old.blocks.settle_dead()
    return saved_from(old, old.clock.ring_ns())


def _or_as_it_is(old: Ring, make: Callable[[], Ring], notices: list[str]) -> Ring:
    try:
        return make()
    except (OtelsloError, OSError) as e:
        notices.append(f"live.ring goes on as it is, no new one could be made: {e}")
        return old


def _replaced(
    old: Ring,
    geometry: Geometry,
    saved: Saved,
    why: str,
    notices: list[str],
    said: str,
    *,
    continues: bool = True,
    rebuilt: bool = False,
) -> Ring:
    """A new ring with what `saved` holds at the old one's path; the old file is kept, or still there if that fails."""
    assert old.path is not None
    path, told = old.path, list[str]()
    target = state.set_aside(path, why)
    try:
        ring = _make(path, geometry, old.clock, old.kernels, old.making, saved, told, continues)
    except BaseException:
        os.rename(target, path)
        if isinstance(old.clock, SystemClock):
            old.clock.epoch_ns = old.header.epoch_ns
        raise
    forget_oldest(path, why, target)
    notices.append(f"{path.name} {said}. It was kept as {target.name}")
    notices += told if rebuilt else []
    return ring


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
    continues: bool = True,
) -> Ring:
    """Build the file under a temporary name and rename it when it is whole; the caller holds the lock."""
    # Workers that still count in a file that somebody removed go on under its identity: the new ring needs its own.
    orphans = saved is not None and not _nobody_lives(path.parent, geometry)
    header = _new_header(geometry, clock, saved, continues=continues and not orphans)
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        memory = Memory(fd, geometry.most_bytes)
    except BaseException:
        os.close(fd)
        raise
    try:
        memory.reserve(0, geometry.fixed_bytes)
        _begin(memory, header)
        ring = Ring(memory, header, kernels, making, path, clock)
        if saved is not None:
            restore(ring, saved)
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
        memory.close()
        temporary.unlink(missing_ok=True)
        raise
    return ring
